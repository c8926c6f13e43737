from __future__ import annotations

from collections.abc import Mapping

import pytest

from search_space.errors import SearchSpaceError, UnsupportedRope
from search_space.rope.config import RopeConfig
from search_space.rope.hf_config import read_rope

V5: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 128,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
}
LEGACY: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
    "rope_scaling": None,
}


def _rope(theta: float, rotary_dim: int, length: int, partial: float = 1.0) -> RopeConfig:
    return RopeConfig(
        rope_theta=theta,
        rotary_dim=rotary_dim,
        original_max_position_embeddings=length,
        partial_rotary_factor=partial,
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (V5, _rope(1000.0, 32, 256)),
        (LEGACY, _rope(500_000.0, 128, 8192)),
        # An explicit head_dim wins over hidden_size / heads (Qwen3, Gemma); null does not count.
        ({**LEGACY, "head_dim": 256}, _rope(500_000.0, 256, 8192)),
        ({**LEGACY, "head_dim": None}, _rope(500_000.0, 128, 8192)),
        # The part of a head that rotates, in both places; Phi-4-mini has 128 * 0.75 = 96.
        ({**LEGACY, "partial_rotary_factor": 0.75}, _rope(500_000.0, 96, 8192, 0.75)),
        (
            {**V5, "rope_parameters": {"rope_theta": 1000.0, "partial_rotary_factor": 0.5}},
            _rope(1000.0, 16, 256, 0.5),
        ),
        # Same statement twice is no conflict.
        ({**V5, "rope_theta": 1000}, _rope(1000.0, 32, 256)),
        # L as stated wins over the longest position; the top level wins over the nested value.
        ({**LEGACY, "original_max_position_embeddings": 4096}, _rope(500_000.0, 128, 4096)),
        (
            {
                **V5,
                "original_max_position_embeddings": 64,
                "rope_parameters": {"rope_theta": 1000.0, "original_max_position_embeddings": 128},
            },
            _rope(1000.0, 32, 64),
        ),
        ({**LEGACY, "rope_scaling": {"type": "default"}}, _rope(500_000.0, 128, 8192)),
        ({**LEGACY, "alibi": False, "position_embedding_type": "rope"}, _rope(500_000.0, 128, 8192)),
        (
            {
                "model_type": "gpt_neox",
                "hidden_size": 512,
                "num_attention_heads": 8,
                "max_position_embeddings": 2048,
                "rotary_emb_base": 10000,
                "rotary_pct": 0.25,
            },
            _rope(10_000.0, 16, 2048, 0.25),
        ),
    ],
)
def test_reads(config: Mapping[str, object], expected: RopeConfig) -> None:
    assert read_rope(config) == expected


def _without(config: Mapping[str, object], *names: str) -> dict[str, object]:
    return {name: value for name, value in config.items() if name not in names}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        # Scaling carried already, in either spelling.
        *[
            ({**V5, "rope_parameters": {"rope_type": kind, "rope_theta": 1e4, "factor": 4.0}}, f"rope_type='{kind}'")
            for kind in ("linear", "dynamic", "yarn", "longrope", "llama3", "proportional")
        ],
        ({**LEGACY, "rope_scaling": {"type": "su", "long_factor": [1.0]}}, "type='su'"),
        ({**LEGACY, "rope_scaling": {"factor": 8.0}}, "factor without a rope_type"),
        ({**LEGACY, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}, "mrope_section"),
        # Layer-typed.
        (
            {
                **V5,
                "rope_parameters": {
                    "full_attention": {"rope_type": "default", "rope_theta": 1e6},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                },
            },
            "differs by layer type: full_attention, sliding_attention",
        ),
        ({**LEGACY, "rope_local_base_freq": 10000.0}, "rope_local_base_freq"),
        ({**LEGACY, "global_rope_theta": 160000.0}, "global_rope_theta"),
        # Other positions.
        ({"model_type": "bloom", "hidden_size": 64, "n_head": 4}, "ALiBi"),
        ({"model_type": "mpt", "attn_config": {"alibi": True}}, "ALiBi"),
        ({**LEGACY, "model_type": "falcon", "alibi": True}, "ALiBi"),
        ({**LEGACY, "attn_config": {"alibi": True}}, "ALiBi"),
        ({**LEGACY, "position_embedding_type": "alibi"}, "ALiBi"),
        ({"model_type": "gpt2", "n_positions": 1024, "n_embd": 768}, "learned or fixed absolute"),
        ({"model_type": "opt", "max_position_embeddings": 2048}, "learned or fixed absolute"),
        ({"model_type": "bert", "position_embedding_type": "absolute"}, "learned or fixed absolute"),
        ({**LEGACY, "position_embedding_type": "absolute"}, "learned or fixed absolute"),
        ({"model_type": "t5"}, "another position scheme"),
        ({**LEGACY, "position_embedding_type": "nope"}, "another position scheme"),
        # Structures that one factor vector does not describe.
        ({"model_type": "gemma3", "text_config": V5}, "text_config"),
        ({**LEGACY, "qk_rope_head_dim": 64}, "multi-head latent"),
        # Nothing is guessed.
        (_without(LEGACY, "rope_theta"), "must state rope_theta"),
        ({**_without(LEGACY, "rope_theta"), "n_positions": 2048}, "other positions (learned, fixed or none)"),
        ({}, "must state rope_theta"),
        ({**LEGACY, "model_type": "phi"}, "must state partial_rotary_factor"),
        (_without(LEGACY, "max_position_embeddings"), "max_position_embeddings must be a positive whole number"),
        (_without(LEGACY, "hidden_size"), "hidden_size must be a positive whole number"),
        # Values that make no sense.
        ({**V5, "rope_theta": 10_000.0}, "one value, but got rope_parameters.rope_theta=1000.0, config.rope_theta"),
        ({**LEGACY, "rope_theta": -1.0}, "rope_theta"),
        ({**LEGACY, "rope_theta": 0}, "rope_theta"),
        ({**LEGACY, "rope_theta": "1e4"}, "finite number, but got '1e4'"),
        ({**LEGACY, "rope_theta": True}, "finite number, but got True"),
        ({**LEGACY, "rope_theta": float("nan")}, "finite number"),
        ({**LEGACY, "rope_theta": 10**400}, "finite number"),
        ({**LEGACY, "head_dim": 0}, "head_dim must be a positive whole number"),
        ({**LEGACY, "head_dim": 10**400}, "head_dim must be a positive whole number below 2^31"),
        ({**LEGACY, "head_dim": 64.5}, "head_dim must be a positive whole number"),
        ({**LEGACY, "head_dim": float("inf")}, "head_dim must be a positive whole number"),
        ({**LEGACY, "head_dim": 33}, "positive even number, but got 33"),
        ({**LEGACY, "num_attention_heads": 0}, "num_attention_heads"),
        ({**LEGACY, "num_attention_heads": 33}, "multiple of num_attention_heads"),
        ({**LEGACY, "partial_rotary_factor": 0.0}, "partial_rotary_factor"),
        ({**LEGACY, "partial_rotary_factor": 4.0}, "partial_rotary_factor"),
        ({**LEGACY, "partial_rotary_factor": 0.25, "head_dim": 12}, "positive even number, but got 3"),
        ({**LEGACY, "max_position_embeddings": -1}, "max_position_embeddings"),
        ({**LEGACY, "original_max_position_embeddings": 0}, "original_max_position_embeddings"),
        ({**LEGACY, "original_max_position_embeddings": 16384}, "at most max_position_embeddings"),
        ({**LEGACY, "rope_scaling": "yarn"}, "rope_scaling must be an object"),
        ({**LEGACY, "model_type": ["llama"], "position_embedding_type": ["rope"]}, "another position scheme"),
    ],
)
def test_refuses_with_the_reason(config: Mapping[str, object], reason: str) -> None:
    with pytest.raises(UnsupportedRope) as caught:
        read_rope(config)
    assert reason in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, SearchSpaceError)
    assert caught.value.code == "UNSUPPORTED_ROPE"
