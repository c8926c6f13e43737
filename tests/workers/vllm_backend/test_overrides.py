"""What vLLM is told of each kind of rotary embedding, so that its table can be written to."""

from __future__ import annotations

from typing import Any

import pytest

from evaluation.architecture.reading import read_architecture
from ropewalk.rope.config import RopeConfig
from tests.helpers.vllm_families import FAMILIES
from workers.vllm_backend.model import hf_overrides

LENGTH = 401  # positions that a table must have


def _rope(name: str) -> RopeConfig:
    return read_architecture(FAMILIES[name]).rope


def _overrides(name: str, config: dict[str, Any] | None = None) -> dict[str, Any]:
    rope = _rope(name)
    return hf_overrides(
        config or FAMILIES[name], rope, original_length=rope.original_max_position_embeddings, target_length=LENGTH - 1
    )


@pytest.mark.parametrize("name", ["llama3", "linear", "dynamic", "yarn", "experts"])
def test_scaling_is_in_the_table_alone(name: str) -> None:
    assert _overrides(name) == {
        "max_position_embeddings": LENGTH,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": _rope(name).rope_theta,
            "partial_rotary_factor": 1.0,
        },
    }


def test_a_nested_config_is_overridden_where_it_is_nested() -> None:
    (section,) = _overrides("nested with axes").items()
    assert section[0] == "text_config"
    assert section[1]["max_position_embeddings"] == LENGTH
    assert section[1]["rope_parameters"]["mrope_section"] == [4, 6, 6]


def test_a_section_may_be_made_by_the_class_alone() -> None:
    """Published Qwen2-VL configs have all keys at the top."""
    nested = FAMILIES["nested with axes"]
    flat = {**nested["text_config"], **nested}
    del flat["text_config"]
    assert set(_overrides("nested with axes", flat)) == {"text_config"}


def test_a_decoder_that_was_saved_alone_has_no_section() -> None:
    assert "max_position_embeddings" in _overrides(
        "nested, scaled queries", FAMILIES["nested, scaled queries"]["text_config"]
    )


def test_other_layers_keep_their_rope_and_a_module_of_their_own() -> None:
    """The two are equal once scaling is out of them, and vLLM gives equal ones one module."""
    parameters = _overrides("layer types")["rope_parameters"]
    assert parameters["sliding_attention"] == {"rope_type": "default", "rope_theta": 10000.0}
    full = parameters["full_attention"]
    assert (full["rope_type"], full["rope_theta"]) == ("default", 10000.0)
    assert set(full) - {"rope_type", "rope_theta", "partial_rotary_factor"}


@pytest.mark.parametrize(("name", "mscale"), [("latent", 1.0), ("latent v2", 0.7)])
def test_the_scale_of_a_softmax_stays(name: str, mscale: float) -> None:
    parameters = _overrides(name)["rope_parameters"]
    assert (parameters["rope_type"], parameters["factor"], parameters["mscale_all_dim"]) == ("yarn", 2.0, mscale)
    assert parameters["factor"] * parameters["original_max_position_embeddings"] >= LENGTH


def test_a_class_that_is_always_yarn_gets_what_it_reads() -> None:
    parameters = _overrides("yarn whatever the config says")["rope_parameters"]
    assert parameters["factor"] * parameters["original_max_position_embeddings"] == LENGTH
    assert {"beta_fast", "beta_slow"} <= set(parameters)


def test_pairs_that_do_not_turn_stay_in_the_table() -> None:
    full = _overrides("pairs that do not turn")["rope_parameters"]["full_attention"]
    assert full["rope_type"] == "proportional"


def test_queries_grow_by_the_name_that_vllm_knows() -> None:
    text = _overrides("nested, scaled queries")["text_config"]
    assert text["llama_4_scaling"] == {"beta": 0.1, "original_max_position_embeddings": 64}


@pytest.mark.parametrize("name", ["longrope", "su"])
def test_longrope_keeps_its_class(name: str) -> None:
    overrides = _overrides(name)
    assert overrides["original_max_position_embeddings"] == 128
    assert overrides["rope_parameters"]["rope_type"] == "longrope"
    assert "type" not in overrides["rope_parameters"]
