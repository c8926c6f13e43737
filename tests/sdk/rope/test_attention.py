from __future__ import annotations

import math

import pytest

from ropewalk.errors import InvalidTargetLength
from ropewalk.rope.attention import longrope_attention_factor, yarn_attention_factor


@pytest.mark.parametrize(
    ("scale", "length", "expected"),
    [(16.0, 8192, 1.1435), (64.0, 2048, 1.2432), (32.0, 4096, 1.1902), (1.0, 4096, 1.0), (0.5, 4096, 1.0)],
)
def test_longrope_published_values(scale: float, length: int, expected: float) -> None:
    assert longrope_attention_factor(scale, length) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("scale", "expected"), [(16.0, 1.2773), (4.0, 1.1386), (1.0, 1.0), (0.5, 1.0)])
def test_yarn_published_values(scale: float, expected: float) -> None:
    assert yarn_attention_factor(scale) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_impossible_scales_are_refused(scale: float) -> None:
    with pytest.raises(InvalidTargetLength, match="scale must be finite and positive"):
        yarn_attention_factor(scale)
    with pytest.raises(InvalidTargetLength, match="scale must be finite and positive"):
        longrope_attention_factor(scale, 4096)


def test_longrope_needs_a_length_with_a_logarithm() -> None:
    with pytest.raises(InvalidTargetLength, match="original_length=1"):
        longrope_attention_factor(2.0, 1)
