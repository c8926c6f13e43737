"""What vLLM must be told about a model's config; vLLM itself is not needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from search_space.rope.config import RopeConfig

_BLOCK_TOKENS = 128  # vLLM's largest usual KV block
SEQUENCES = 4  # side by side in a step, at most: the largest group of workers/transformers_backend/passes.py
TOKENS_PER_STEP = {"cpu": 1024, "cuda": 8192}  # at least those of a group, which shares one step
_SPARE_BLOCKS = 2  # vLLM keeps one empty, and one is begun by the token that a request must generate


def hf_overrides(
    config: Mapping[str, Any], rope: RopeConfig, *, original_length: int, target_length: int
) -> dict[str, Any]:
    """What replaces values of the model's config in vLLM, so that its rotary table covers `target_length` and one more.

    vLLM puts a dict in place of the config's own as a whole and fills nothing in: a missing rope_theta would silently
    become 10000. A `longrope` config stays one, with its factors (they are overwritten before anything is scored), so
    that vLLM rotates with the class that it will serve the model with.
    """
    parameters: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": rope.rope_theta,
        "partial_rotary_factor": rope.partial_rotary_factor,
    }
    overrides: dict[str, Any] = {"max_position_embeddings": model_length(target_length)}
    block = _longrope_block(config)
    if block is not None:
        own = {key: value for key, value in block.items() if key not in ("type", "rope_type")}
        parameters = own | parameters | {"rope_type": "longrope", "original_max_position_embeddings": original_length}
        overrides["original_max_position_embeddings"] = original_length
    return overrides | {"rope_parameters": parameters}


def _longrope_block(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    blocks = [block for name in ("rope_parameters", "rope_scaling") if isinstance(block := config.get(name), Mapping)]
    return next((one for one in blocks if one.get("rope_type", one.get("type")) in ("longrope", "su")), None)


def model_length(target_length: int) -> int:
    """vLLM's max_model_len: a request must generate a token, and room is counted for it."""
    return target_length + 1


def engine_kv_bytes(config: Mapping[str, Any], *, target_length: int, device: str, item_bytes: int, ranks: int) -> int:
    """Of the KV cache that an engine keeps on each rank: a document of the target length, or the groups of a step."""
    tokens = max(target_length, TOKENS_PER_STEP[device])
    return kv_cache_bytes(config, tokens=tokens, sequences=SEQUENCES, item_bytes=item_bytes, ranks=ranks)


def kv_cache_bytes(config: Mapping[str, Any], *, tokens: int, sequences: int, item_bytes: int, ranks: int) -> int:
    """Of keys and values of `sequences` documents with `tokens` in all on one tensor-parallel rank, in whole blocks."""
    heads = int(config["num_attention_heads"])
    head_dim = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
    kv_heads = math.ceil(int(config.get("num_key_value_heads") or heads) / ranks)
    per_token = 2 * int(config["num_hidden_layers"]) * kv_heads * head_dim * item_bytes
    blocks = math.ceil(tokens / _BLOCK_TOKENS) + sequences * _SPARE_BLOCKS
    return blocks * _BLOCK_TOKENS * per_token
