"""What is read of a model's config, by the model's own code; every family: tests/families."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from evaluation.architecture.reading import read_architecture
from ropewalk.errors import RopewalkError, UnsupportedRope
from ropewalk.rope.config import RopeConfig, compute_inv_freq

V5: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
}
LEGACY: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
    "rope_scaling": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
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
        # The part of a head that rotates, where the class reads it; Phi-4-mini has 128 * 0.75 = 96.
        ({**LEGACY, "model_type": "phi3", "partial_rotary_factor": 0.75}, _rope(500_000.0, 96, 8192, 0.75)),
        # Same statement twice is no conflict.
        ({**V5, "rope_theta": 1000}, _rope(1000.0, 32, 256)),
        # What the class fills in: no rope_theta at all, as in Llama 2.
        ({name: value for name, value in LEGACY.items() if name != "rope_theta"}, _rope(10_000.0, 128, 8192)),
        ({**LEGACY, "rope_scaling": {"type": "default"}}, _rope(500_000.0, 128, 8192)),
        ({**LEGACY, "rope_scaling": {"rope_type": "default", "type": "mrope"}}, _rope(500_000.0, 128, 8192)),
        # A dense member of a family that also has mixtures of experts.
        ({**LEGACY, "num_local_experts": 0}, _rope(500_000.0, 128, 8192)),
        (
            {
                "model_type": "gpt_neox",
                "hidden_size": 512,
                "num_hidden_layers": 2,
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
    found = read_architecture(config).rope
    assert (found.rope_theta, found.rotary_dim) == (expected.rope_theta, expected.rotary_dim)
    assert found.original_max_position_embeddings == expected.original_max_position_embeddings
    assert found.partial_rotary_factor == expected.partial_rotary_factor
    np.testing.assert_array_equal(compute_inv_freq(found), compute_inv_freq(expected))


@pytest.mark.parametrize(
    ("scaling", "length", "original_length", "served"),
    [
        (LLAMA3, 131072, None, 131072),
        ({**LLAMA3, "factor": 32.0}, 131072, None, 131072),  # Llama 3.2 serves less than factor * original
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}, 8192, None, 32768),
        ({"type": "linear", "factor": 4.0}, 16384, None, 16384),
        ({"type": "dynamic", "factor": 4.0}, 8192, None, 8192),
        (LLAMA3, 131072, 8192, 8192),
    ],
)
def test_the_length_that_a_scaled_model_serves(
    scaling: dict[str, object], length: int, original_length: int | None, served: int
) -> None:
    config = {**LEGACY, "rope_scaling": scaling, "max_position_embeddings": length}
    assert read_architecture(config, original_length=original_length).rope.original_max_position_embeddings == served


@pytest.mark.parametrize(
    "scaling",
    [
        LLAMA3,
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048},
        {"rope_type": "linear", "factor": 3.0},
        {"rope_type": "longrope", "short_factor": [1.5] * 64, "long_factor": [2.5] * 64, "factor": 4.0}
        | {"original_max_position_embeddings": 2048},
    ],
)
def test_a_models_own_scaling_is_what_transformers_computes_to_float32(scaling: dict[str, object]) -> None:
    import torch
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = {**LEGACY, "rope_scaling": scaling}
    rope = read_architecture(config).rope
    module = LlamaRotaryEmbedding(LlamaConfig.from_dict(config))
    module(torch.zeros(1, 1, 1), torch.tensor([[rope.original_max_position_embeddings - 1]]))
    assert rope.attention_factor == pytest.approx(module.attention_scaling)
    np.testing.assert_allclose(compute_inv_freq(rope), module.inv_freq.double().numpy(), rtol=1e-5)


def test_longrope_is_what_it_is_at_the_length_in_question() -> None:
    scaling = {"type": "su", "short_factor": [1.5] * 64, "long_factor": [2.5] * 64}
    config = {**LEGACY, "model_type": "phi3", "original_max_position_embeddings": 2048, "rope_scaling": scaling}
    long, short = (read_architecture(config, original_length=length).rope.published for length in (None, 2048))
    assert long is not None
    assert short is not None
    np.testing.assert_allclose(long.factors.values, 2.5)
    np.testing.assert_allclose(short.factors.values, 1.5)


def _without(config: Mapping[str, object], *names: str) -> dict[str, object]:
    return {name: value for name, value in config.items() if name not in names}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        # Other positions.
        ({"model_type": "bloom", "hidden_size": 64, "n_head": 4, "n_layer": 1}, "ALiBi"),
        ({"model_type": "mpt", "d_model": 64, "n_heads": 4, "n_layers": 1}, "ALiBi"),
        ({"model_type": "falcon", "hidden_size": 64, "num_attention_heads": 4, "alibi": True}, "ALiBi"),
        ({"model_type": "gpt2", "n_layer": 1, "n_embd": 768}, "embeddings of absolute positions"),
        ({"model_type": "opt", "num_hidden_layers": 1, "max_position_embeddings": 2048}, "absolute positions"),
        ({"model_type": "gptj", "n_layer": 1, "n_embd": 64, "n_head": 4, "rotary_dim": 8}, "table of sines"),
        ({"model_type": "mamba2", "num_hidden_layers": 1}, "no attention layer"),
        ({"model_type": "t5", "num_layers": 1}, "must generate text"),
        # No code.
        ({"model_type": "internlm2", "auto_map": {"AutoConfig": "x.Y"}}, "comes with the checkpoint and is never run"),
        ({"model_type": "nobody"}, "no model_type='nobody'"),
        ({}, "must state its model_type"),
        ({**LEGACY, "model_type": ["llama"]}, "must state its model_type"),
        # Contradictions, with both values.
        ({**V5, "rope_theta": 10_000.0}, "one value, but got rope_parameters.rope_theta=1000.0, config.rope_theta"),
        ({**LEGACY, "original_max_position_embeddings": 16384}, "at most max_position_embeddings"),
        ({**LEGACY, "rope_scaling": {"type": "yarn", "rope_type": "linear", "factor": 2.0}}, "type"),
        (
            {**LEGACY, "rope_scaling": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0] * 64}},
            "64",
        ),
        # Values that make no sense.
        ({**LEGACY, "rope_theta": -1.0}, "rope_theta"),
        ({**LEGACY, "rope_theta": 0}, "rope_theta"),
        ({**LEGACY, "rope_theta": "1e4"}, "rope_theta"),
        ({**LEGACY, "rope_theta": True}, "rope_theta"),
        ({**LEGACY, "rope_theta": float("nan")}, "rope_theta"),
        ({**LEGACY, "rope_theta": 10**400}, "rope_theta"),
        ({**LEGACY, "head_dim": 0}, "head_dim must be a whole number"),
        ({**LEGACY, "head_dim": 10**400}, "head_dim must be a whole number"),
        ({**LEGACY, "head_dim": 64.5}, "head_dim must be a whole number"),
        ({**LEGACY, "head_dim": 33}, "even"),
        ({**LEGACY, "num_attention_heads": 0}, "num_attention_heads"),
        ({**LEGACY, "num_experts": -1}, "num_experts must be a whole number from 0"),
        ({**LEGACY, "num_hidden_layers": 10**9}, "num_hidden_layers must be a whole number from 1 to 1024"),
        ({**LEGACY, "max_position_embeddings": -1}, "max_position_embeddings"),
        ({**LEGACY, "rope_scaling": "yarn"}, "rope_scaling must be an object"),
        ({**LEGACY, "rope_scaling": {"rope_type": "nobody's"}}, "nobody's"),
    ],
)
def test_refuses_with_the_reason(config: Mapping[str, object], reason: str) -> None:
    with pytest.raises(UnsupportedRope) as caught:
        read_architecture(config)
    assert reason in str(caught.value)
    assert isinstance(caught.value, RopewalkError)
    assert "\n" not in str(caught.value)
