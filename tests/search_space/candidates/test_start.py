"""A shape of another search at another length: the map of LongRoPE's released code, and what it must keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.rope.attention import yarn_attention_factor
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.baselines import baseline
from search_space.candidates.start import Start
from search_space.errors import InvalidStrategy

ROPE = RopeConfig(rope_theta=10_000.0, rotary_dim=32, original_max_position_embeddings=256)
SCALES = st.floats(1.1, 64.0)


@given(
    values=st.lists(st.floats(1.0, 100.0), min_size=2, max_size=16), attention=st.floats(1.0, 2.0), a=SCALES, b=SCALES
)
def test_there_and_back_is_where_one_began(values: list[float], attention: float, a: float, b: float) -> None:
    start = Start(scaling=Scaling(RescaleFactors(tuple(sorted(values))), attention), scale=a)
    assert start.factors(a) == pytest.approx(sorted(values))
    assert start.attention_factor(a) == pytest.approx(attention)
    there = start.factors(b)
    assert all(np.diff(there) >= -1e-12)
    assert all(there >= 1.0)
    back = Start(scaling=Scaling(RescaleFactors(tuple(there.tolist())), start.attention_factor(b)), scale=b)
    assert back.factors(a) == pytest.approx(sorted(values), rel=1e-6)
    assert back.attention_factor(a) == pytest.approx(attention, rel=1e-6)


@pytest.mark.parametrize("name", ["none", "pi"])
def test_formulas_that_are_linear_in_the_scale_stay_themselves(name: str) -> None:
    start = Start(scaling=baseline(name, ROPE, 1024).scaling, scale=4.0)
    assert start.factors(16.0) == pytest.approx(baseline(name, ROPE, 4096).scaling.factors.as_array())


def test_yarns_attention_factor_stays_yarns() -> None:
    scaling = Scaling(baseline("pi", ROPE, 1024).scaling.factors, yarn_attention_factor(4.0))
    assert Start(scaling=scaling, scale=4.0).attention_factor(16.0) == pytest.approx(yarn_attention_factor(16.0))


@pytest.mark.parametrize("scale", [1.0, 0.5, float("nan"), float("inf")])
def test_a_scale_is_above_1(scale: float) -> None:
    with pytest.raises(InvalidStrategy, match="scale of a start must be above 1"):
        Start(scaling=baseline("pi", ROPE, 1024).scaling, scale=scale)
