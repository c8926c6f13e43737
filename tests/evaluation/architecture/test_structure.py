"""What is read of a model's modules: weights, cache, normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from evaluation.architecture.config import load_config
from evaluation.architecture.reading import Architecture, read_architecture
from evaluation.architecture.skeleton import auto_class
from evaluation.models.source import read_config, resolve_model
from tests.helpers.tiny_configs import config_of, nested_config
from workers.memory import weight_bytes

TOKENS = 12


def _read(config: Mapping[str, object]) -> Architecture:
    return read_architecture(config)


CACHED = {
    "grouped": config_of("llama"),
    "fused": config_of("phi3", original_max_position_embeddings=64),
    "fused, all heads": {**config_of("gpt_neox"), "num_key_value_heads": None},
    "one head of keys": config_of("falcon", multi_query=True, new_decoder_architecture=False),
    "wide heads": config_of("qwen3", head_dim=16),
    "nested": nested_config(),
}


@pytest.mark.parametrize("name", CACHED)
def test_the_cache_is_what_transformers_keeps(name: str) -> None:
    config = CACHED[name]
    read = _read(config)
    model = auto_class(load_config(config)).from_config(load_config(config)).eval()
    with torch.no_grad():
        cache: Any = model(torch.ones(1, TOKENS, dtype=torch.long), use_cache=True).past_key_values
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert read.structure.cache_bytes(read.layers, TOKENS) == kept


def test_a_window_bounds_the_cache() -> None:
    read = _read(config_of("mistral", sliding_window=8))
    per_token = read.structure.cache_bytes(read.layers, 1)
    assert per_token == 2 * 2 * 2 * 8 * 4  # keys and values of two layers, two heads of 8 numbers, 4 bytes
    assert [read.structure.cache_bytes(read.layers, tokens) for tokens in (8, 100)] == [8 * per_token] * 2


def test_latents_are_cached_in_place_of_keys_and_values() -> None:
    sizes = {"kv_lora_rank": 16, "q_lora_rank": None, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
    read = _read(config_of("deepseek_v3", **sizes, first_k_dense_replace=2, num_key_value_heads=4))
    assert (read.structure.cached, read.structure.query_groups) == ((24, 24), None)


def test_the_weights_of_the_pocket_model() -> None:
    source = resolve_model("pocket")
    structure = _read(read_config(source.path)).structure
    assert structure.weight_bytes == weight_bytes(source.path, item_bytes=structure.item_bytes)


@pytest.mark.parametrize(
    ("config", "norms", "qk_norm", "groups"),
    [
        (config_of("llama"), "before", False, 2),
        (config_of("qwen3"), "before", True, 2),
        (config_of("olmo2"), "after", True, 2),
        (config_of("glm4"), "around", False, 2),
        (config_of("gemma2"), "around", False, 2),
        (config_of("gpt_neox"), "before", False, 1),
        (config_of("falcon", multi_query=True, new_decoder_architecture=False), "before", False, 4),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)
def test_normalisation_and_groups(config: Mapping[str, object], norms: str, qk_norm: bool, groups: int) -> None:
    structure = _read(config).structure
    assert (structure.norms, structure.qk_norm, structure.query_groups) == (norms, qk_norm, groups)


def test_where_the_length_is_from() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    assert _read(config_of("llama")).length_from == "max_position_embeddings"
    assert _read(config_of("llama", rope_scaling=yarn)).length_from == "scaling"
    assert read_architecture(config_of("llama"), original_length=32).length_from == "original_length"
