from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ropewalk.rope.config import RopeConfig
from ropewalk.rope.critical_pair import ten_period_critical_pair, theoretical_critical_pair
from search_space.candidates.baselines import baseline
from search_space.errors import InvalidStrategy
from search_space.strategies.base import StrategyContext
from search_space.strategies.shape_space import Axis, ShapeSpace, shape_factors
from tests.helpers.strategy_cases import ropes, scales, target_length

POCKET = RopeConfig(rope_theta=1000.0, rotary_dim=32, original_max_position_embeddings=256)
units = st.floats(0.0, 1.0)


def _context(
    rope: RopeConfig = POCKET, length: int = 1024, attention_factor: float | None = 1.0, seed: int = 0
) -> StrategyContext:
    return StrategyContext(rope=rope, target_length=length, seed=seed, attention_factor=attention_factor)


def _space(rope: RopeConfig, scale: float, attention_factor: float | None) -> ShapeSpace:
    length = target_length(rope, scale)
    assume(rope.num_pairs >= 4 and length > rope.original_max_position_embeddings)
    return ShapeSpace.of(_context(rope, length, attention_factor))


@pytest.mark.parametrize(
    ("num_pairs", "s", "critical_pair", "factor"),
    [(48, 32.0, 31, 32.03), (64, 16.0, 33, 21.81)],
    ids=["Phi-4-mini", "LLaMA3"],
)
def test_released_factors_are_shapes_below_their_critical_pair(
    num_pairs: int, s: float, critical_pair: int, factor: float
) -> None:
    found = shape_factors(
        num_pairs, s, critical_pair=critical_pair, head_exponent=1.0, tail_multiple=factor / s, tail_slope=0.0
    )
    expected = [factor ** (i / critical_pair) for i in range(critical_pair + 1)]
    np.testing.assert_allclose(found[: critical_pair + 1], expected, rtol=1e-12)
    np.testing.assert_allclose(found[critical_pair:], factor, rtol=1e-12)


@pytest.mark.parametrize("critical_pair", [1, 4, 9, 14])
def test_the_plain_shape_is_ntk_at_the_critical_pair(critical_pair: int) -> None:
    found = shape_factors(16, 4.0, critical_pair=critical_pair, head_exponent=1.0, tail_multiple=1.0, tail_slope=0.0)
    expected = baseline("ntk_critical", POCKET, 1024, critical_pair=critical_pair).scaling.factors.as_array()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_each_number_of_a_shape_does_what_its_name_says() -> None:
    # c = 4 of 9 pairs at s = 9, by hand: 9^((i/4)^2) up to c, then 9 m (1 + k (i-4)/4).
    found = shape_factors(9, 9.0, critical_pair=4.0, head_exponent=2.0, tail_multiple=1.0, tail_slope=2.0)
    head = [1.0, 9.0 ** (1 / 16), math.sqrt(3.0), 9.0 ** (9 / 16), 9.0]
    np.testing.assert_allclose(found, [*head, 13.5, 18.0, 22.5, 27.0], rtol=1e-12)
    halved = shape_factors(9, 9.0, critical_pair=4.0, head_exponent=2.0, tail_multiple=0.5, tail_slope=2.0)
    np.testing.assert_allclose(halved[4:], found[4:] / 2.0, rtol=1e-12)
    # A turn between two pairs: 9^(i/2.5) below it, 9 (1 + (i - 2.5) / 5.5) above.
    between = shape_factors(9, 9.0, critical_pair=2.5, head_exponent=1.0, tail_multiple=1.0, tail_slope=1.0)
    np.testing.assert_allclose(between[[2, 3, 8]], [9.0**0.8, 9.0 * 12 / 11, 18.0], rtol=1e-12)


def test_a_multiple_that_falls_below_1_leaves_pairs_as_they_are() -> None:
    found = shape_factors(9, 1.5, critical_pair=4.0, head_exponent=1.0, tail_multiple=0.5, tail_slope=2.0)
    # 0.75 (1 + 2 (i-4)/4) passes 1 between pairs 4 and 5.
    np.testing.assert_allclose(found, [1.0, 1.0, 1.0, 1.0, 1.0, 1.125, 1.5, 1.875, 2.25], rtol=1e-12)


@pytest.mark.slow
@given(ropes, scales, st.sampled_from([1.0, None]), st.lists(units, min_size=5, max_size=5))
def test_every_point_is_a_candidate_that_fits_the_model(
    rope: RopeConfig, scale: float, attention_factor: float | None, point: list[float]
) -> None:
    space = _space(rope, scale, attention_factor)
    # RescaleFactors refuses a vector that falls, drops below 1 or is not finite.
    found = space.candidate(point[: len(space.axes)], origin="initial", parents=(3,))
    found.scaling.factors.check_fits(rope.num_pairs)
    assert [gene.name for gene in found.genes] == [axis.name for axis in space.axes]
    assert (found.origin, found.parents) == ("initial", (3,))
    genes = {gene.name: gene.value for gene in found.genes}
    assert found.critical_pair == math.ceil(genes["critical_pair"])
    assert found.scaling.attention_factor == genes.get("attention_factor", attention_factor)
    s = space.target_length / rope.original_max_position_embeddings
    highest = s * genes["tail_multiple"] * (1.0 + genes["tail_slope"])
    assert found.scaling.factors.values[-1] == pytest.approx(max(highest, 1.0), rel=1e-9)


@given(ropes, st.floats(1.5, 100.0), st.sampled_from([1.0, None]), st.lists(units, min_size=5, max_size=5))
@settings(max_examples=50)
def test_a_candidates_point_is_the_one_it_was_made_from(
    rope: RopeConfig, scale: float, attention_factor: float | None, point: list[float]
) -> None:
    space = _space(rope, scale, attention_factor)
    own = point[: len(space.axes)]
    found = space.candidate(own, origin="initial")
    np.testing.assert_allclose(space.point(found), own, atol=1e-5)
    # And from there on nothing moves: genes are what a study keeps.
    assert space.candidate(space.point(found).tolist(), origin="initial") == found


@given(ropes, scales)
def test_the_curve_turns_within_the_pairs(rope: RopeConfig, scale: float) -> None:
    axis = _space(rope, scale, 1.0).axes[0]
    assert 1 <= axis.low < axis.high <= rope.num_pairs - 2


def test_the_axes_of_the_pocket_model() -> None:
    axes = ShapeSpace.of(_context(attention_factor=None)).axes
    ten_period, theoretical = ten_period_critical_pair(POCKET), theoretical_critical_pair(POCKET)
    assert [(axis.name, axis.low, axis.high) for axis in axes] == [
        ("critical_pair", ten_period, 2 * theoretical - ten_period),
        *((axis.name, axis.low, axis.high) for axis in axes[1:4]),
        ("attention_factor", 1.0, round(1.0 + 0.2 * math.log(4.0), 6)),
    ]
    assert [axis.name for axis in axes[1:4]] == ["head_exponent", "tail_multiple", "tail_slope"]
    # NTK at a critical pair is inside, and what differs by a ratio is spread by it.
    assert all(axis.low <= plain < axis.high for axis, plain in zip(axes[1:4], (1.0, 1.0, 0.0), strict=True))
    assert [axis.log for axis in axes] == [False, True, True, False, False]
    assert ShapeSpace.of(_context(attention_factor=1.2)).axes == axes[:4]


def test_axes_are_even_in_the_difference_or_in_the_ratio() -> None:
    even = Axis(name="x", low=1.0, high=5.0)
    assert [even.value(unit) for unit in (0.0, 0.25, 1.0)] == [1.0, 2.0, 5.0]
    ratio = Axis(name="x", low=0.5, high=2.0, log=True)
    assert [ratio.value(unit) for unit in (0.0, 0.5, 1.0)] == [0.5, 1.0, 2.0]
    assert [ratio.unit(value) for value in (0.5, 1.0, 2.0)] == [0.0, 0.5, 1.0]
    for axis in (even, ratio):
        assert (axis.value(-0.1), axis.value(1.1)) == (axis.low, axis.high)


def test_genes_keep_six_decimals() -> None:
    space = ShapeSpace.of(_context(attention_factor=None))
    for gene in space.candidate([0.123456789] * 5, origin="initial").genes:
        assert gene.value == round(gene.value, 6)


def test_the_shortest_extension_has_an_attention_axis() -> None:
    rope = replace(POCKET, original_max_position_embeddings=2**21)
    space = ShapeSpace.of(_context(rope, 2**21 + 1, attention_factor=None))
    assert space.point(space.candidate([0.5] * 5, origin="initial")).shape == (5,)


@pytest.mark.parametrize(
    ("rope", "length", "message"),
    [
        (POCKET, 256, "num_pairs=16, target_length=256"),
        (replace(POCKET, rotary_dim=6), 1024, "num_pairs=3, target_length=1024"),
    ],
)
def test_models_and_lengths_without_a_shape_are_refused(rope: RopeConfig, length: int, message: str) -> None:
    with pytest.raises(InvalidStrategy, match=f"at least 4 pairs and a target length above .* {message}"):
        ShapeSpace.of(_context(rope, length))


def test_a_candidate_of_another_space_has_no_point() -> None:
    fixed, searched = (ShapeSpace.of(_context(attention_factor=factor)) for factor in (1.0, None))
    with pytest.raises(InvalidStrategy, match=r"genes must be those of the shape space, but got .*'tail_slope'"):
        searched.point(fixed.candidate([0.5] * 4, origin="initial"))
    with pytest.raises(InvalidStrategy, match=r"but got \[\]"):
        fixed.point(baseline("pi", POCKET, 1024))


def test_a_point_has_one_number_for_each_axis() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        ShapeSpace.of(_context()).candidate([0.5] * 5, origin="initial")
