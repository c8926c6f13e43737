"""Which shape stands for a formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk.rope.config import RopeConfig
from search_space.candidates.baselines import baseline
from search_space.strategies.base import StrategyContext
from search_space.strategies.nearest_shape import nearest_point
from search_space.strategies.seeds import seed_baselines
from search_space.strategies.shape_space import ShapeSpace

ROPES = [
    RopeConfig(rope_theta=base, rotary_dim=dim, original_max_position_embeddings=length)
    for base, dim, length in [(1e3, 32, 256), (1e4, 32, 256), (5e5, 32, 256), (5e5, 128, 8192), (1e6, 128, 32768)]
]


def space_of(rope: RopeConfig, times: int, attention_factor: float | None = None) -> ShapeSpace:
    length = times * rope.original_max_position_embeddings
    return ShapeSpace.of(StrategyContext(rope=rope, target_length=length, seed=0, attention_factor=attention_factor))


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("times", [4, 8])
@pytest.mark.parametrize("name", ["yarn", "mrrope_pro", "ntk_critical"])
def test_the_formulas_in_use_lie_in_the_space(rope: RopeConfig, times: int, name: str) -> None:
    formula = baseline(name, rope, times * rope.original_max_position_embeddings)
    space = space_of(rope, times)
    point = nearest_point(space, formula)
    assert point is not None
    assert ((point >= 0) & (point <= 1)).all()
    shape = space.candidate(point.tolist(), origin="test").scaling
    difference = np.log(shape.factors.values) - np.log(formula.scaling.factors.values)
    assert np.sqrt(np.mean(difference**2)) <= 0.06
    assert shape.attention_factor == formula.scaling.attention_factor


def test_position_interpolation_is_no_shape() -> None:
    assert nearest_point(space_of(ROPES[1], 4), baseline("pi", ROPES[1], 1024)) is None


def test_an_attention_factor_beyond_the_axis_is_no_shape() -> None:
    space = space_of(ROPES[1], 4)
    seeds = {seed.origin: seed for seed in seed_baselines(_context(ROPES[1], 1024))}
    assert nearest_point(space, seeds["baseline:yarn+attention"]) is not None
    far = baseline("yarn", ROPES[1], 1024)
    far = type(far)(scaling=type(far.scaling)(far.scaling.factors, 3.0))
    assert nearest_point(space, far) is None


def _context(rope: RopeConfig, length: int) -> StrategyContext:
    return StrategyContext(rope=rope, target_length=length, seed=0, attention_factor=None)


@settings(max_examples=25, deadline=None)
@given(units=st.lists(st.floats(0.05, 0.95), min_size=5, max_size=5))
def test_a_shape_is_close_to_itself(units: list[float]) -> None:
    space = space_of(ROPES[1], 4)
    shape = space.candidate(units, origin="test")
    point = nearest_point(space, shape)
    assert point is not None
    found = space.candidate(point.tolist(), origin="test").scaling
    assert np.log(found.factors.values) == pytest.approx(np.log(shape.scaling.factors.values), abs=0.2)
    assert found.attention_factor == pytest.approx(shape.scaling.attention_factor, abs=1e-5)
