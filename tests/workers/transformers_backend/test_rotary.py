"""Models whose rotary module is not what it seems are refused by name, never scored wrongly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from ropewalk.errors import InvalidRescaleFactors
from ropewalk.rope.config import RopeConfig, compute_inv_freq
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from tests.helpers.samples import IDENTITY, ROPE, STRETCHED, llama_config, longrope_config
from workers.errors import ScorerUnavailable
from workers.transformers_backend.rotary import RotaryTable


class Rotary(torch.nn.Module):
    """As transformers' rotary modules look from outside."""

    inv_freq: torch.Tensor

    def __init__(self, pairs: int = ROPE.num_pairs) -> None:
        super().__init__()
        self.register_buffer("inv_freq", torch.ones(pairs), persistent=False)
        self.attention_scaling = 1.0

    def forward(self, hidden: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = positions[..., None].float() * self.inv_freq
        doubled = self.lay_out(angles)
        return doubled.cos() * self.attention_scaling, doubled.sin() * self.attention_scaling

    def lay_out(self, angles: torch.Tensor) -> torch.Tensor:
        return torch.cat((angles, angles), dim=-1)


class InterleavedRotary(Rotary):
    def lay_out(self, angles: torch.Tensor) -> torch.Tensor:
        return angles.repeat_interleave(2, dim=-1)


class RecomputingRotary(Rotary):
    """Keeps the buffer for show and computes its own frequencies, as PhiMoE does."""

    def lay_out(self, angles: torch.Tensor) -> torch.Tensor:
        return torch.cat((angles, angles), dim=-1) * 0.5


class DeafRotary(Rotary):
    def forward(self, hidden: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cos, sin = super().forward(hidden, positions)
        return cos / self.attention_scaling, sin / self.attention_scaling


class ComplexRotary(Rotary):
    def forward(self, hidden: torch.Tensor, positions: torch.Tensor) -> Any:
        return torch.polar(torch.ones(1), torch.ones(1))


def inv_freq_of(module: torch.nn.Module) -> np.ndarray[Any, Any]:
    found: list[Any] = [one for one in module.modules() if hasattr(one, "inv_freq")]
    result: np.ndarray[Any, Any] = found[0].inv_freq.detach().numpy()
    return result


@pytest.mark.parametrize("kind", [Rotary, InterleavedRotary])
def test_what_is_written_is_the_formula_in_float32(kind: type[Rotary]) -> None:
    model = torch.nn.Sequential(kind())
    RotaryTable(model, ROPE).write(Scaling(STRETCHED, 1.2))
    assert (inv_freq_of(model) == compute_inv_freq(ROPE, STRETCHED).astype(np.float32)).all()
    assert model[0].attention_scaling == 1.2


def test_every_rotary_module_is_written() -> None:
    model = torch.nn.Sequential(Rotary(), Rotary())
    RotaryTable(model, ROPE).write(Scaling(STRETCHED, 1.0))
    assert torch.equal(model[0].inv_freq, model[1].inv_freq)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [RecomputingRotary, DeafRotary, ComplexRotary])
def test_a_module_that_does_not_obey_is_refused_by_name(kind: type[Rotary]) -> None:
    with pytest.raises(ScorerUnavailable, match=kind.__name__):
        RotaryTable(torch.nn.Sequential(kind()), ROPE)


def test_phimoe_recomputes_in_its_forward_pass_and_is_refused() -> None:
    build: Any = transformers.models.phimoe.modeling_phimoe.PhimoeRotaryEmbedding
    config = transformers.PhimoeConfig(
        hidden_size=32,
        num_attention_heads=2,
        max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE.rope_theta},
    )
    with pytest.raises(ScorerUnavailable, match="PhimoeRotaryEmbedding"):
        RotaryTable(torch.nn.Sequential(build(config)), ROPE)


def test_wrong_number_of_pairs_is_refused_with_the_class_and_both_shapes() -> None:
    with pytest.raises(ScorerUnavailable, match=r"\(8,\).*Rotary with inv_freq of shape \(5,\)"):
        RotaryTable(torch.nn.Sequential(Rotary(pairs=5)), ROPE)


def test_no_rotary_module_at_all_is_refused() -> None:
    with pytest.raises(ScorerUnavailable, match="Linear"):
        RotaryTable(torch.nn.Linear(2, 2), ROPE)


def test_factors_of_another_model_are_refused_and_nothing_is_written() -> None:
    model = torch.nn.Sequential(Rotary())
    table = RotaryTable(model, ROPE)
    table.write(Scaling(STRETCHED, 1.0))
    before = inv_freq_of(model).copy()
    with pytest.raises(InvalidRescaleFactors):
        table.write(Scaling(RescaleFactors.identity(3), 2.0))
    assert (inv_freq_of(model) == before).all()
    assert model[0].attention_scaling == 1.0


def test_a_model_cast_to_bfloat16_gets_float32_angles_back() -> None:
    build: Any = transformers.LlamaForCausalLM
    model = build(llama_config()).to(torch.bfloat16)
    RotaryTable(model, ROPE).write(Scaling(STRETCHED, 1.0))
    assert (inv_freq_of(model) == compute_inv_freq(ROPE, STRETCHED).astype(np.float32)).all()


def test_longrope_of_transformers_no_longer_swaps_by_length() -> None:
    build: Any = transformers.LlamaForCausalLM
    model = build(longrope_config(STRETCHED, 1.1))
    RotaryTable(model, ROPE).write(Scaling(IDENTITY, 1.0))
    rotary = model.model.rotary_emb
    for length in (200, 10, 200):
        cos, _ = rotary(torch.zeros(1, length, 1), torch.arange(length)[None])
        assert cos[0, 9, 0].item() == pytest.approx(math.cos(9.0), abs=1e-6)
        assert (inv_freq_of(model) == compute_inv_freq(ROPE).astype(np.float32)).all()


def test_partial_rotary_width() -> None:
    rope = RopeConfig(rope_theta=1000.0, rotary_dim=8, original_max_position_embeddings=64)
    parameters = {"rope_type": "default", "rope_theta": 1000.0, "partial_rotary_factor": 0.5}
    config = transformers.Phi3Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        rope_parameters=parameters,
    )
    build: Any = transformers.Phi3ForCausalLM
    model = build(config)
    factors = RescaleFactors((1.0, 2.0, 3.0, 4.0))
    RotaryTable(model, rope).write(Scaling(factors, 1.0))
    assert (inv_freq_of(model) == compute_inv_freq(rope, factors).astype(np.float32)).all()
