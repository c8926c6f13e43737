"""Rotary position embedding, as far as a search needs it.

Symbols, used all over this room:

====  ==================================  =========================================
n     ``rope.num_pairs``                  cos/sin pairs, rotary_dim / 2
i     a pair, 0 <= i < n                  0 turns fastest; never a dimension 2i
L     ``original_max_position_embeddings``  tokens the model was trained on
L'    ``target_length``                   tokens it is extended to
s     L' / L                              the scale
l_i   ``RescaleFactors.values[i]``        lambda_i, ``long_factor[i]``
====  ==================================  =========================================

Angles are in radians per position; wavelengths in positions per period.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_space.errors import InvalidTargetLength, UnsupportedRope
from search_space.rope.rescale_factors import RescaleFactors


@dataclass(frozen=True, kw_only=True, slots=True)
class RopeConfig:
    """An unscaled rotary embedding.

    Raises:
        UnsupportedRope: `rope_theta` is not a finite number above 1, `rotary_dim` not a positive even number, or
            `original_max_position_embeddings` not positive, `partial_rotary_factor` not in (0, 1].

    `partial_rotary_factor` says which part of each head rotates; `rotary_dim` has it in already. No formula reads it,
    exports write it.
    """

    rope_theta: float
    rotary_dim: int
    original_max_position_embeddings: int
    partial_rotary_factor: float = 1.0

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

    @property
    def num_pairs(self) -> int:
        """n: the number of cos/sin frequencies."""
        return self.rotary_dim // 2


def compute_inv_freq(rope: RopeConfig, factors: RescaleFactors | None = None) -> NDArray[np.float64]:
    """Angle per position of each pair: 1 / (lambda_i * rope_theta^(2i / rotary_dim)), shape (n,), radians.

    LongRoPE2 (arXiv 2502.20082) eq. 8. Without `factors` every lambda_i is 1. Attention scaling is not applied.

    Raises:
        InvalidRescaleFactors: `factors` does not hold one value per pair.
    """
    exponents = np.arange(rope.num_pairs, dtype=np.float64) * 2.0 / rope.rotary_dim
    period_scale = rope.rope_theta**exponents
    if factors is not None:
        factors.check_fits(rope.num_pairs)
        period_scale = factors.as_array() * period_scale
    result: NDArray[np.float64] = 1.0 / period_scale
    return result


def wavelengths(rope: RopeConfig) -> NDArray[np.float64]:
    """Positions per period of each unscaled pair: 2 pi * rope_theta^(2i / rotary_dim), shape (n,)."""
    result: NDArray[np.float64] = 2.0 * math.pi / compute_inv_freq(rope)
    return result


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
