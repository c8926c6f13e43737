from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given

from ropewalk.errors import InvalidRescaleFactors, InvalidTargetLength, UnsupportedRope
from ropewalk.rope.config import RopeConfig, compute_inv_freq, scale, wavelengths
from ropewalk.rope.rescale_factors import RescaleFactors
from tests.helpers.strategy_cases import ropes

POCKET = RopeConfig(rope_theta=1000.0, rotary_dim=32, original_max_position_embeddings=256)


def test_inv_freq_by_hand() -> None:
    rope = RopeConfig(rope_theta=10_000.0, rotary_dim=4, original_max_position_embeddings=16)
    np.testing.assert_allclose(compute_inv_freq(rope), [1.0, 0.01], rtol=1e-15)
    np.testing.assert_allclose(compute_inv_freq(rope, RescaleFactors((2.0, 5.0))), [0.5, 0.002], rtol=1e-15)
    assert compute_inv_freq(rope).dtype == np.float64


def test_inv_freq_refuses_factors_of_another_width() -> None:
    with pytest.raises(InvalidRescaleFactors, match=r"one value per pair \(rotary_dim / 2 = 16\), but got 15 values"):
        compute_inv_freq(POCKET, RescaleFactors.identity(15))


@given(ropes)
def test_identity_factors_change_nothing_and_wavelengths_are_periods(rope: RopeConfig) -> None:
    plain = compute_inv_freq(rope)
    np.testing.assert_array_equal(plain, compute_inv_freq(rope, RescaleFactors.identity(rope.num_pairs)))
    assert plain.shape == (rope.num_pairs,)
    assert plain[0] == 1.0
    assert np.all(np.diff(plain) < 0)
    np.testing.assert_allclose(wavelengths(rope) * plain, 2 * math.pi, rtol=1e-12)


def test_scale() -> None:
    assert scale(POCKET, 1024) == 4.0
    assert scale(POCKET, 256) == 1.0
    with pytest.raises(InvalidTargetLength, match="target_length=255, original_length=256"):
        scale(POCKET, 255)


@pytest.mark.parametrize(
    ("theta", "rotary_dim", "length", "partial", "message"),
    [
        (1.0, 32, 256, 1.0, "rope_theta"),
        (0.0, 32, 256, 1.0, "rope_theta"),
        (-10.0, 32, 256, 1.0, "rope_theta"),
        (math.inf, 32, 256, 1.0, "rope_theta"),
        (math.nan, 32, 256, 1.0, "rope_theta"),
        (1e4, 0, 256, 1.0, "rotary_dim=0"),
        (1e4, 31, 256, 1.0, "rotary_dim=31"),
        (1e4, -2, 256, 1.0, "rotary_dim=-2"),
        (1e4, 32, 0, 1.0, "original_max_position_embeddings=0"),
        (1e4, 32, 256, 0.0, "partial_rotary_factor"),
        (1e4, 32, 256, 1.5, "partial_rotary_factor"),
    ],
)
def test_impossible_ropes_are_refused(theta: float, rotary_dim: int, length: int, partial: float, message: str) -> None:
    with pytest.raises(UnsupportedRope, match=message):
        RopeConfig(
            rope_theta=theta,
            rotary_dim=rotary_dim,
            original_max_position_embeddings=length,
            partial_rotary_factor=partial,
        )
