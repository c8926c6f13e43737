"""A search that begins with the shapes of another."""

from __future__ import annotations

import numpy as np
import pytest

from ropewalk.rope.config import RopeConfig
from search_space.candidates.start import Start
from search_space.strategies.auto.strategy import START_ORIGIN
from search_space.strategies.base import Strategy, StrategyContext
from search_space.strategies.registry import make_strategy
from search_space.strategies.shape_space import ShapeSpace

ROPE = RopeConfig(rope_theta=1000.0, rotary_dim=32, original_max_position_embeddings=256)
ARGUMENTS = {"startup": 6, "batch": 3, "generations": 2, "first_documents": 1, "leaders": 2}


def context(length: int, *starts: Start, attention: float | None = None) -> StrategyContext:
    return StrategyContext(
        rope=ROPE, target_length=length, seed=0, attention_factor=attention, documents=4, starts=tuple(starts)
    )


def auto(length: int, *starts: Start, attention: float | None = None) -> Strategy:
    return make_strategy("auto", ARGUMENTS, context(length, *starts, attention=attention))


def found(length: int, point: list[float]) -> Start:
    """A shape as a search at `length` might have found it."""
    candidate = ShapeSpace.of(context(length)).candidate(point, origin="surrogate")
    return Start(scaling=candidate.scaling, scale=length / 256)


POINTS = ([0.3, 0.5, 0.6, 0.2, 0.4], [0.7, 0.3, 0.5, 0.1, 0.8])


@pytest.mark.parametrize("attention", [None, 1.0])
def test_a_search_of_the_same_length_begins_with_the_very_shapes(attention: float | None) -> None:
    starts = [found(1024, point) for point in POINTS]
    first = auto(1024, *starts, attention=attention).propose(0, ())
    own = [one for one in first.candidates if one.origin == START_ORIGIN]
    assert len(own) == 2
    for start, one in zip(starts, own, strict=True):
        away = np.log(one.scaling.factors.as_array()) - np.log(start.scaling.factors.as_array())
        assert np.abs(away).max() < 0.02
        wanted = start.scaling.attention_factor if attention is None else attention
        assert one.scaling.attention_factor == pytest.approx(wanted, abs=1e-3)
        assert one.genes, "it can be bred from"


def test_a_search_of_another_length_begins_with_what_they_are_there() -> None:
    starts = [found(1024, point) for point in POINTS]
    own = [one for one in auto(2048, *starts).propose(0, ()).candidates if one.origin == START_ORIGIN]
    for start, one in zip(starts, own, strict=True):
        away = np.log(one.scaling.factors.as_array()) - np.log(np.maximum(start.factors(8.0), 1.0))
        assert np.sqrt(np.mean(away**2)) < 0.15


def test_starts_take_the_places_of_spread_shapes() -> None:
    plain, warm = auto(1024).propose(0, ()), auto(1024, *(found(1024, point) for point in POINTS)).propose(0, ())
    assert len(plain.candidates) == len(warm.candidates)
    spread = [[one for one in step.candidates if one.origin == "initial"] for step in (plain, warm)]
    assert spread[1] == spread[0][:-2]
    assert auto(1024).max_document_passes == auto(1024, found(1024, POINTS[0])).max_document_passes


def test_more_starts_than_places_and_equal_ones() -> None:
    many = [found(1024, [0.1 * number, 0.5, 0.5, 0.2, 0.3]) for number in range(9)]
    own = [one for one in auto(1024, *many).propose(0, ()).candidates if one.origin != "initial"]
    assert sum(one.origin == START_ORIGIN for one in own) == 6
    twice = auto(1024, many[3], many[3]).propose(0, ()).candidates
    assert sum(one.origin == START_ORIGIN for one in twice) == 1
