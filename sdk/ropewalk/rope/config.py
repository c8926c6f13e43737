"""Rotary position embedding, as far as a search needs it.

Symbols, used all over this room:

====  ==================================  =========================================
n     ``rope.num_pairs``                  cos/sin pairs, rotary_dim / 2
i     a pair, 0 <= i < n                  0 turns fastest; never a dimension 2i
L     ``original_max_position_embeddings``  tokens that the model serves
L'    ``target_length``                   tokens it is extended to
s     L' / L                              the scale
l_i   ``RescaleFactors.values[i]``        lambda_i, what a search multiplies periods by
l0_i  ``rope.published.factors[i]``       lambda0_i, what the model's own scaling does
====  ==================================  =========================================

Angles are in radians per position; wavelengths in positions per period.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import InvalidTargetLength, UnsupportedRope
from ropewalk.rope.published import PLAIN_PLACE, ConfigPlace, PublishedScaling
from ropewalk.rope.rescale_factors import RescaleFactors


@dataclass(frozen=True, kw_only=True, slots=True)
class RopeConfig:
    """A model's rotary embedding, as it is published.

    Raises:
        UnsupportedRope: `rope_theta` is not a finite number above 1, `rotary_dim` not a positive even number, or
            `original_max_position_embeddings` not positive, `partial_rotary_factor` not in (0, 1].

    `partial_rotary_factor` says which part of each head rotates; `rotary_dim` has it in already. No formula reads it or
    `place`: exports write them. `published` is None for a model without scaling of its own.
    """

    rope_theta: float
    rotary_dim: int
    original_max_position_embeddings: int
    partial_rotary_factor: float = 1.0
    published: PublishedScaling | None = None
    place: ConfigPlace = PLAIN_PLACE

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rope_theta) and self.rope_theta > 1.0):
            raise UnsupportedRope(f"rope_theta must be a finite number above 1, but got rope_theta={self.rope_theta!r}")
        if self.rotary_dim < 2 or self.rotary_dim % 2:
            raise UnsupportedRope(
                "the rotary width (head_dim * partial_rotary_factor) must be a positive even number, "
                f"but got rotary_dim={self.rotary_dim!r}"
            )
        if self.original_max_position_embeddings < 1:
            raise UnsupportedRope(
                "original_max_position_embeddings must be positive, "
                f"but got original_max_position_embeddings={self.original_max_position_embeddings!r}"
            )
        if not 0.0 < self.partial_rotary_factor <= 1.0:
            raise UnsupportedRope(f"partial_rotary_factor must be in (0, 1], but got {self.partial_rotary_factor!r}")
        if self.published is not None and len(self.published.factors) != self.num_pairs:
            raise UnsupportedRope(
                f"a model's own scaling must have one factor per pair (rotary_dim / 2 = {self.num_pairs}), "
                f"but got {len(self.published.factors)}"
            )

    @property
    def num_pairs(self) -> int:
        """n: the number of cos/sin frequencies."""
        return self.rotary_dim // 2

    @property
    def attention_factor(self) -> float:
        """A0: what the model as published multiplies cos and sin by."""
        return 1.0 if self.published is None else self.published.attention_factor


def compute_inv_freq(rope: RopeConfig, factors: RescaleFactors | None = None) -> NDArray[np.float64]:
    """Angle per position of each pair: 1 / (lambda_i * lambda0_i * rope_theta^(2i / rotary_dim)), shape (n,), radians.

    LongRoPE2 (arXiv 2502.20082) eq. 8, over the model's own scaling: lambda0_i is 1 without one, and every lambda_i is
    1 without `factors`. Attention scaling is not applied.

    Raises:
        InvalidRescaleFactors: `factors` does not hold one value per pair.
    """
    exponents = np.arange(rope.num_pairs, dtype=np.float64) * 2.0 / rope.rotary_dim
    period_scale = rope.rope_theta**exponents
    if factors is not None:
        factors.check_fits(rope.num_pairs)
    if (scaled := absolute_factors(rope, factors)) is not None:
        period_scale = scaled * period_scale
    result: NDArray[np.float64] = 1.0 / period_scale
    return result


def absolute_factors(rope: RopeConfig, factors: RescaleFactors | None = None) -> NDArray[np.float64] | None:
    """lambda_i * lambda0_i, shape (n,): what a ``longrope`` config holds. None where neither is given."""
    own = None if rope.published is None else rope.published.factors.as_array()
    if factors is None:
        return own
    return factors.as_array() if own is None else factors.as_array() * own


def wavelengths(rope: RopeConfig) -> NDArray[np.float64]:
    """Positions per period of each pair as published: 2 pi * lambda0_i * rope_theta^(2i / rotary_dim), shape (n,)."""
    result: NDArray[np.float64] = 2.0 * math.pi / compute_inv_freq(rope)
    return result


def pair_with_periods(rope: RopeConfig, periods: float) -> float:
    """The pair, a fraction between two and possibly beyond both ends, that completes `periods` periods within L.

    n * log_rope_theta(L / (2 pi periods)): YaRN (arXiv 2309.00071) eq. 17 in pairs, LongRoPE2 (arXiv 2502.20082) eq. 7.
    A model with scaling of its own has no such formula: between two of its pairs the logarithm of the period is taken
    as linear, beyond the ends as steep as without scaling.
    """
    length = rope.original_max_position_embeddings
    if rope.published is None:
        return rope.num_pairs * math.log(length / (2.0 * math.pi * periods)) / math.log(rope.rope_theta)
    logs = np.maximum.accumulate(np.log(wavelengths(rope)))
    wanted, slope = math.log(length / periods), math.log(rope.rope_theta) / rope.num_pairs
    before, after = min(wanted - float(logs[0]), 0.0), max(wanted - float(logs[-1]), 0.0)
    return float(np.interp(wanted, logs, np.arange(rope.num_pairs))) + (before + after) / slope


def scale(rope: RopeConfig, target_length: int) -> float:
    """s = L' / L.

    Raises:
        InvalidTargetLength: `target_length` is shorter than the original length.
    """
    original_length = rope.original_max_position_embeddings
    if target_length < original_length:
        raise InvalidTargetLength(
            "target_length must be at least original_length, "
            f"but got target_length={target_length}, original_length={original_length}"
        )
    return target_length / original_length
