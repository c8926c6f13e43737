"""Against an independent source: transformers' own frequencies, for configs that its users would write."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from ropewalk.factors.exports.registry import export
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.rope.attention import longrope_attention_factor, yarn_attention_factor
from ropewalk.rope.config import RopeConfig, compute_inv_freq
from ropewalk.rope.published import PairFactors
from search_space.candidates.baselines import baseline

if TYPE_CHECKING:
    from transformers import LlamaConfig

# Imported by the tests: loading them takes longer than all other tests of this folder.
pytestmark = [pytest.mark.torch, pytest.mark.slow]


@dataclass(frozen=True, kw_only=True)
class Case:
    theta: float
    head_dim: int
    length: int
    scale: int
    partial: float = 1.0

    @property
    def rope(self) -> RopeConfig:
        return RopeConfig(
            rope_theta=self.theta,
            rotary_dim=int(self.head_dim * self.partial),
            original_max_position_embeddings=self.length,
            partial_rotary_factor=self.partial,
        )

    @property
    def target_length(self) -> int:
        return self.length * self.scale

    def config(self, parameters: dict[str, object]) -> LlamaConfig:
        from transformers import LlamaConfig

        return LlamaConfig(
            hidden_size=4 * self.head_dim,
            num_attention_heads=4,
            head_dim=self.head_dim,
            max_position_embeddings=self.target_length if parameters else self.length,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": self.theta,
                "partial_rotary_factor": self.partial,
                **parameters,
            },
        )


CASES = [
    Case(theta=1e3, head_dim=32, length=256, scale=4),  # the pocket model
    Case(theta=1e4, head_dim=64, length=2048, scale=16),
    Case(theta=5e5, head_dim=128, length=8192, scale=16),  # LLaMA3-8B
    Case(theta=1e6, head_dim=64, length=32_768, scale=4),  # Qwen2.5-0.5B
    Case(theta=1e4, head_dim=128, length=4096, scale=32, partial=0.75),  # Phi-4-mini
    Case(theta=1e4, head_dim=64, length=96, scale=8),  # the ramp starts at pair 0
    Case(theta=10.0, head_dim=8, length=65_536, scale=2),  # the ramp lies beyond the last pair
]


def _theirs(case: Case, kind: str, **parameters: object) -> tuple[NDArray[np.float64], float]:
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = case.config({"rope_type": kind, "original_max_position_embeddings": case.length, **parameters})
    inv_freq, scaling = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), seq_len=case.target_length)
    return inv_freq.double().numpy(), scaling


@pytest.mark.parametrize("case", CASES, ids=str)
def test_linear(case: Case) -> None:
    theirs, _ = _theirs(case, "linear", factor=float(case.scale))
    ours = compute_inv_freq(case.rope, baseline("pi", case.rope, case.target_length).scaling.factors)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_yarn(case: Case) -> None:
    theirs, scaling = _theirs(case, "yarn", factor=float(case.scale))
    ours = compute_inv_freq(case.rope, baseline("yarn", case.rope, case.target_length).scaling.factors)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert yarn_attention_factor(case.scale) == pytest.approx(scaling, rel=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_longrope(case: Case) -> None:
    factors = baseline("ntk_critical", case.rope, case.target_length).scaling.factors
    theirs, scaling = _theirs(
        case,
        "longrope",
        factor=float(case.scale),
        short_factor=[1.0] * case.rope.num_pairs,
        long_factor=list(factors.values),
    )
    np.testing.assert_allclose(compute_inv_freq(case.rope, factors), theirs, rtol=1e-6)
    assert longrope_attention_factor(case.scale, case.length) == pytest.approx(scaling, rel=1e-12)


@pytest.mark.parametrize("attention_factor", [1.0, 1.19])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_exported_config_gives_the_searched_frequencies(case: Case, attention_factor: float) -> None:
    import torch
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rope = case.rope
    factors = baseline("mrrope_pro", rope, case.target_length).scaling.factors
    file = FactorFile(
        model=ModelIdentity.of(rope, name="case"),
        original_max_position_embeddings=case.length,
        target_length=case.target_length,
        attention_factor=attention_factor,
        short_factor=PairFactors((1.0,) * rope.num_pairs),
        long_factor=PairFactors(factors.values),
    )
    # Only what the fragment says: the rope parameters of the base model are gone.
    config = LlamaConfig(
        hidden_size=4 * case.head_dim, num_attention_heads=4, head_dim=case.head_dim, **json.loads(export(file, "hf"))
    )
    module = LlamaRotaryEmbedding(config)
    states = torch.zeros(1, 1, 1)
    module(states, torch.tensor([[case.length - 1]]))
    np.testing.assert_allclose(module.inv_freq.double().numpy(), compute_inv_freq(rope), rtol=1e-6)
    module(states, torch.tensor([[case.length]]))
    np.testing.assert_allclose(module.inv_freq.double().numpy(), compute_inv_freq(rope, factors), rtol=1e-6)
    assert module.attention_scaling == attention_factor
