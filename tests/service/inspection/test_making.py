"""The inspection of a model: facts of its config, and what follows from them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from evaluation.errors import ModelNotFound
from ropewalk.errors import InvalidOriginalLength, InvalidTargetLength, UnsupportedRope
from ropewalk.factors.exports.registry import EXPORTS
from ropewalk.wire.inspection import Inspection
from service.inspection.making import inspect_model
from tests.helpers.tiny_configs import config_of, nested_config, saved


def _inspected(directory: Path, model_type: str, *, target_length: int | None = None, **fields: Any) -> Inspection:
    return inspect_model(saved(directory, config_of(model_type, **fields)), target_length=target_length)


def test_the_pocket_model() -> None:
    found = inspect_model("pocket")
    assert (found.original_length, found.original_length_from, found.target_length) == (
        256,
        "max_position_embeddings",
        1024,
    )
    assert (found.model_type, found.model_class, found.revision) == ("llama", "LlamaForCausalLM", None)
    rotation = found.rotation
    assert (rotation.num_pairs, rotation.pairs_beyond_length) == (16, 9)
    assert rotation.own_scaling is None
    assert found.layers.rescaled == "all 4 rotary layers"
    assert all(one.loads and one.reason is None for one in found.consumers)
    assert found.memory.kv_cache_bytes == 4 * 1024 * 2 * 128 * 4
    assert found.warnings == ()


def test_every_export_for_another_program_is_asked() -> None:
    formats = [one.format for one in inspect_model("pocket").consumers]
    assert formats == [name for name, row in EXPORTS.items() if not row.is_whole]


def test_it_is_read_back_as_it_was_written() -> None:
    adapter, found = TypeAdapter(Inspection), inspect_model("pocket")
    assert adapter.validate_json(adapter.dump_json(found)) == found
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.model = "other"  # type: ignore[misc]


def test_a_scaled_model(tmp_path: Path) -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    found = _inspected(tmp_path, "qwen3", rope_scaling=yarn)
    assert (found.original_length, found.original_length_from, found.target_length) == (256, "scaling", 1024)
    own = found.rotation.own_scaling
    assert own is not None
    assert (own.rope_type, own.smallest_factor) == ("yarn", 1.0)
    assert own.largest_factor == pytest.approx(4.0)
    assert own.attention_factor == pytest.approx(1.1386, abs=1e-4)
    assert {one.format for one in found.consumers if not one.loads} == {"gguf"}
    assert any("queries and keys" in prior.fact for prior in found.priors)


def test_layers_of_two_types(tmp_path: Path) -> None:
    types = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    found = _inspected(tmp_path, "gemma3_text", num_hidden_layers=4, layer_types=types, sliding_window=16)
    assert found.layers.rescaled == "the 1 full_attention layer; the 3 other rotary layers keep their own embedding"
    assert len(found.layers.kinds) == 2
    facts = [prior.fact for prior in found.priors]
    assert "3 of 4 layers see a window only" in facts
    assert any("three of the four" in fact for fact in facts), "normalisation, groups and windows"
    assert any("2512.13961" in prior.source for prior in found.priors)


def test_windows_that_no_target_can_be_reached_through(tmp_path: Path) -> None:
    found = _inspected(tmp_path, "mistral", sliding_window=16)
    assert (found.layers.reach, found.layers.rotary_window) == (31, 16)
    assert any("can reach back" in warning for warning in found.warnings)


def test_a_nested_config(tmp_path: Path) -> None:
    found = inspect_model(saved(tmp_path, nested_config()))
    assert found.memory.kv_cache_bytes == 2 * 256 * 2 * 2 * 8 * 4
    assert found.original_length == 64


def test_given_lengths(tmp_path: Path) -> None:
    model = saved(tmp_path, config_of("llama"))
    found = inspect_model(model, original_length=32, target_length=32)
    assert (found.original_length, found.original_length_from, found.target_length) == (32, "original_length", 32)


@pytest.mark.parametrize(
    ("fields", "lengths", "error", "said"),
    [
        ({}, {"target_length": 63}, InvalidTargetLength, "target_length=63, original_length=64"),
        ({}, {"original_length": 65}, InvalidOriginalLength, "64, but got original_length=65"),
        ({"model_type": "internlm2", "auto_map": {}}, {}, UnsupportedRope, "never run here"),
        ({"model_type": "gpt2"}, {}, UnsupportedRope, "absolute positions"),
    ],
)
def test_what_is_refused(
    fields: dict[str, Any], lengths: dict[str, int], error: type[Exception], said: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**config_of("llama"), **fields}))
    with pytest.raises(error, match=said):
        inspect_model(str(tmp_path), **lengths)


def test_an_unknown_model() -> None:
    with pytest.raises(ModelNotFound, match="/no/such/model"):
        inspect_model("/no/such/model")
