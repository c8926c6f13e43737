"""Factors in a GGUF: read back with the gguf package, everything else as it was."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from finetune.errors import UnsupportedGguf
from finetune.output.gguf import write_gguf
from ropewalk.errors import FactorsDoNotFit
from ropewalk.factors.factor_file import FactorFile
from ropewalk.rope.published import PairFactors
from tests.helpers.factor_files import FULL

FILE = replace(FULL, attention_factor=1.07, target_length=1000)
REPLACED = {
    "llama.context_length": 1000,
    "llama.rope.scaling.type": "longrope",
    "llama.rope.scaling.original_context_length": 256,
    "llama.rope.scaling.attn_factor": float(np.float32(1.07)),
    "llama.rope.freq_base": 1000.0,
}


def _writer(path: Path, architecture: str = "llama", **keys: Any) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(256)
    writer.add_embedding_length(16)
    writer.add_head_count(2)
    writer.add_rope_freq_base(1000.0)
    writer.add_token_list(["a", "", "ü", "long" * 40])
    writer.add_token_scores([0.5, -1.0, 2.0, 3.0])
    writer.add_key_value("general.name", "", gguf.GGUFValueType.STRING)
    for name, value in keys.items():
        getattr(writer, name)(value)
    return writer


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _model(path: Path, architecture: str = "llama", **keys: Any) -> Path:
    writer = _writer(path, architecture, **keys)
    numbers = np.random.default_rng(0)
    blocks = gguf.quants.quantize(numbers.normal(size=(3, 64)).astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("token_embd.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("output_norm.weight", numbers.normal(size=(7,)).astype(np.float32))
    writer.add_tensor("blk.0.attn_q.weight", numbers.normal(size=(3, 5)).astype(np.float16))
    _finish(writer)
    return path


def _keys(path: Path) -> dict[str, Any]:
    fields = gguf.GGUFReader(path).fields.items()
    return {name: field.contents() for name, field in fields if not name.startswith("GGUF.")}


def _tensors(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    return {
        tensor.name: (tensor.tensor_type.name, tensor.shape.tolist(), tensor.data.tobytes())
        for tensor in gguf.GGUFReader(path).tensors
    }


@pytest.mark.parametrize("architecture", ["llama", "phi3"])
def test_factors_are_there_and_all_else_is_as_it_was(tmp_path: Path, architecture: str) -> None:
    source, output = _model(tmp_path / "model.gguf", architecture), tmp_path / "out" / "long.gguf"
    before = source.read_bytes()
    write_gguf(FILE, source=source, output=output)
    assert source.read_bytes() == before
    changed = {name.replace("llama", architecture): value for name, value in REPLACED.items()}
    assert _keys(output) == _keys(source) | changed
    assert _tensors(output) == _tensors(source) | {
        "rope_factors_long.weight": ("F32", [4], np.array(FILE.long_factor.values, dtype=np.float32).tobytes()),
        "rope_factors_short.weight": ("F32", [4], np.array(FILE.short_factor.values, dtype=np.float32).tobytes()),
    }


@pytest.mark.parametrize("alignment", [32, 256])
def test_tensors_lie_where_llama_cpp_expects_them(tmp_path: Path, alignment: int) -> None:
    """Each behind the one before, padded to the alignment: its loader checks exactly that."""
    source, output = _model(tmp_path / "model.gguf", add_custom_alignment=alignment), tmp_path / "long.gguf"
    write_gguf(FILE, source=source, output=output)
    reader = gguf.GGUFReader(output)
    expected = reader.data_offset
    for tensor in reader.tensors:
        assert tensor.data_offset == expected
        expected += tensor.n_bytes + -tensor.n_bytes % alignment
    assert output.stat().st_size == expected


def test_a_file_without_padding_at_its_end(tmp_path: Path) -> None:
    source, output = _model(tmp_path / "model.gguf"), tmp_path / "long.gguf"
    last = gguf.GGUFReader(source).tensors[-1]
    os.truncate(source, last.data_offset + last.n_bytes)
    write_gguf(FILE, source=source, output=output)
    assert _tensors(output).items() >= _tensors(source).items()


def test_the_input_is_not_overwritten(tmp_path: Path) -> None:
    source = _model(tmp_path / "model.gguf")
    (tmp_path / "link.gguf").symlink_to(source)
    for output in (source, tmp_path / "link.gguf"):
        with pytest.raises(UnsupportedGguf, match="another file than the model's GGUF"):
            write_gguf(FILE, source=source, output=output)


def _refused(tmp_path: Path, source: Path, file: FactorFile, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as refused:
        write_gguf(file, source=source, output=tmp_path / "out.gguf")
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name], "nothing is left behind"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"add_rope_scaling_type": gguf.RopeScalingType.YARN}, "no rope scaling yet, but .*rope.scaling.type=yarn"),
        ({"add_rope_scaling_factor": 4.0}, "rope.scaling.factor=4.0"),
        ({"add_rope_scaling_attn_factors": 1.19}, "rope.scaling.attn_factor=1.19"),
    ],
)
def test_a_scaled_model_is_refused(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    _refused(tmp_path, _model(tmp_path / "model.gguf", **keys), FILE, UnsupportedGguf, message)


def test_a_model_with_factors_is_refused(tmp_path: Path) -> None:
    write_gguf(FILE, source=_model(tmp_path / "plain.gguf"), output=tmp_path / "model.gguf")
    (tmp_path / "plain.gguf").unlink()
    _refused(tmp_path, tmp_path / "model.gguf", FILE, UnsupportedGguf, "rope_factors_long.weight, rope_factors_short")


def test_why_llamas_own_scaling_is_refused(tmp_path: Path) -> None:
    writer = _writer(tmp_path / "model.gguf")
    writer.add_tensor("rope_freqs.weight", np.ones(4, dtype=np.float32))
    _finish(writer)
    message = (
        r"has rope_freqs\.weight: llama\.cpp divides by that at every length, and then reads neither short nor long"
    )
    _refused(tmp_path, tmp_path / "model.gguf", FILE, UnsupportedGguf, message)


def test_an_architecture_without_longrope_is_refused(tmp_path: Path) -> None:
    source = _model(tmp_path / "model.gguf", "qwen2")
    _refused(tmp_path, source, FILE, UnsupportedGguf, "apertus, llama, minicpm, phi3, phimoe only, but .* has qwen2")


def test_one_part_of_a_model_is_refused(tmp_path: Path) -> None:
    writer = _writer(tmp_path / "model.gguf")
    writer.add_uint16(gguf.Keys.Split.LLM_KV_SPLIT_COUNT, 3)
    writer.add_tensor("output_norm.weight", np.ones(4, dtype=np.float32))
    _finish(writer)
    _refused(tmp_path, tmp_path / "model.gguf", FILE, UnsupportedGguf, "in one file, but .* is one of 3; join them")


def test_a_vocabulary_alone_is_refused(tmp_path: Path) -> None:
    _finish(_writer(tmp_path / "model.gguf"))
    _refused(tmp_path, tmp_path / "model.gguf", FILE, UnsupportedGguf, "hold the model's tensors")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all" * 9])
def test_what_is_no_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    _refused(tmp_path, tmp_path / "model.gguf", FILE, UnsupportedGguf, "must be a GGUF that can be read")


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    source = _model(tmp_path / "model.gguf")
    os.truncate(source, gguf.GGUFReader(source).tensors[-1].data_offset + 3)
    _refused(tmp_path, source, FILE, UnsupportedGguf, "must be")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_theta": 500.0}, "rope_theta=500.0, but .* has rope.freq_base=1000.0"),
        ({"rotary_dim": 6}, "rotary_dim=6, but .* has 8"),
        ({"original_max_position_embeddings": 300}, "embeddings=300, but .* has context_length=256"),
    ],
)
def test_another_model_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    original = change.pop("original_max_position_embeddings", 256)
    model = replace(FILE.model, **change)
    factors = PairFactors((1.0,) * (model.rotary_dim // 2))
    file = replace(
        FILE,
        model=model,
        original_max_position_embeddings=original,
        critical_pair=None,
        short_factor=factors,
        long_factor=factors,
    )
    _refused(tmp_path, _model(tmp_path / "model.gguf"), file, FactorsDoNotFit, message)


def test_the_stated_width_counts(tmp_path: Path) -> None:
    source = _model(tmp_path / "model.gguf", add_rope_dimension_count=4)
    _refused(tmp_path, source, FILE, FactorsDoNotFit, "rotary_dim=8, but .* has 4")


def test_an_old_output_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    source, output = _model(tmp_path / "model.gguf"), tmp_path / "long.gguf"
    output.write_text("old")
    with pytest.raises(FactorsDoNotFit):
        write_gguf(replace(FILE, model=replace(FILE.model, rope_theta=2.0)), source=source, output=output)
    assert output.read_text() == "old"
    write_gguf(FILE, source=source, output=output)
    assert _keys(output)["llama.context_length"] == 1000
    assert stat.S_IMODE(output.stat().st_mode) == stat.S_IMODE(source.stat().st_mode)
