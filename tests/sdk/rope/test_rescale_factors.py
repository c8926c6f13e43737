from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.errors import InvalidRescaleFactors
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.rescale_factors import RescaleFactors


@given(st.lists(st.floats(1.0, 1e6), min_size=1, max_size=64).map(sorted))
def test_sorted_values_from_one_are_kept_bit_for_bit(values: list[float]) -> None:
    factors = RescaleFactors(tuple(values))
    assert factors.values == tuple(values)
    assert len(factors) == len(values)
    np.testing.assert_array_equal(factors.as_array(), np.array(values))


@given(st.lists(st.floats(1.0, 100.0), min_size=2, max_size=16, unique=True).map(sorted), st.data())
def test_a_single_swap_is_refused(values: list[float], data: st.DataObject) -> None:
    i = data.draw(st.integers(0, len(values) - 2))
    values[i], values[i + 1] = values[i + 1], values[i]
    with pytest.raises(InvalidRescaleFactors, match="non-decreasing"):
        RescaleFactors(tuple(values))


@pytest.mark.parametrize("bad", [0.999, 0.0, -1.0, math.nan, math.inf, -math.inf, True, "2.0", None, 1 + 0j, 10**400])
def test_bad_values_are_refused_with_their_place(bad: object) -> None:
    with pytest.raises(InvalidRescaleFactors, match=r"values\[1\]"):
        RescaleFactors((1.0, bad))  # type: ignore[arg-type]


def test_empty_is_refused() -> None:
    with pytest.raises(InvalidRescaleFactors, match="at least one value"):
        RescaleFactors(())


def test_numpy_numbers_become_floats() -> None:
    factors = RescaleFactors(tuple(np.array([1, 2.5])))
    assert factors == RescaleFactors((1.0, 2.5))
    assert all(type(value) is float for value in factors.values)


def test_fits() -> None:
    rope = RopeConfig(rope_theta=1000.0, rotary_dim=32, original_max_position_embeddings=256)
    RescaleFactors.identity(16).check_fits(rope.num_pairs)
    for num_pairs in (15, 17, 32):
        with pytest.raises(InvalidRescaleFactors, match=f"got {num_pairs} values"):
            RescaleFactors.identity(num_pairs).check_fits(rope.num_pairs)


def test_the_array_is_a_copy() -> None:
    factors = RescaleFactors.identity(2)
    factors.as_array()[0] = 9.0
    assert factors.values == (1.0, 1.0)
