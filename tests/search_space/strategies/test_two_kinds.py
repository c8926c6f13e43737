"""The default strategy where there are position-skipped documents beside full ones."""

from __future__ import annotations

import pytest

from ropewalk.rope.config import RopeConfig
from search_space.candidates.candidate import Candidate
from search_space.candidates.cost import PassCost
from search_space.candidates.step import Budget
from search_space.strategies.auto.strategy import AutoStrategy
from search_space.strategies.base import StrategyContext
from search_space.strategies.registry import make_strategy
from tests.helpers.breeding import Objective, Search, play, smooth

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("coarse_formulas")]  # whole searches, bred to the end

ROPE = RopeConfig(rope_theta=1000.0, rotary_dim=32, original_max_position_embeddings=256)
FULL, SKIPPED = 6, 16
COST = PassCost(each=256, longer=FULL, longer_each=1024)
ARGUMENTS = {"startup": 6, "batch": 3, "generations": 3, "first_documents": 2, "first_skipped": 4, "leaders": 2}
FEW = {"promoted": 3, "promoted_documents": 4}


def alike(candidate: Candidate, document: int) -> float:
    """Skipped documents give other values in the same order."""
    return smooth(candidate, document) if document < FULL else 0.3 + 2.0 * smooth(candidate, 0)


def opposed(candidate: Candidate, document: int) -> float:
    """They rank the other way round."""
    return smooth(candidate, document) if document < FULL else 10.0 / (1.0 + smooth(candidate, 0))


def strategy_of(budget: Budget | None = None) -> AutoStrategy:
    context = StrategyContext(
        rope=ROPE,
        target_length=1024,
        seed=0,
        attention_factor=1.0,
        documents=FULL,
        skipped_documents=SKIPPED,
        budget=budget or Budget(),
        skipped=COST,
    )
    strategy = make_strategy("auto", {**ARGUMENTS, **FEW}, context)
    assert isinstance(strategy, AutoStrategy)
    return strategy


def search_of(objective: Objective, budget: Budget | None = None) -> Search:
    return play(strategy_of(budget), objective)


@pytest.fixture(scope="module", params=[alike, opposed])
def search(request: pytest.FixtureRequest) -> Search:
    return search_of(request.param)


def asked(search: Search, generation: int) -> set[int]:
    """The documents of a step, by index."""
    step = search.steps[generation]
    return {*step.documents, *(index for one in step.extend for index in one.documents)}


def test_shapes_begin_on_skipped_documents(search: Search) -> None:
    assert asked(search, 0) == set(range(FULL, FULL + 4))


def test_baselines_say_whether_the_two_kinds_rank_alike(search: Search) -> None:
    full = {one.trial for one in search.steps[1].extend if min(one.documents) < FULL}
    baselines = [one for one in search.history if one.candidate.baseline_name is not None]
    assert {one.candidate.scaling.key for one in baselines if one.trial in full} == {
        one.candidate.scaling.key for one in baselines
    }
    assert len(full) < len(baselines)  # formulas that coincide are asked once


def test_only_the_best_go_on_to_full_documents_where_they_rank_alike() -> None:
    search = search_of(alike)
    strategy = strategy_of()
    assert strategy.trusts_skipped(search.history)
    on_full = [one for one in search.bred if any(score.index < FULL for score in one.scores)]
    assert 0 < len(on_full) <= FEW["promoted"]
    assert max(score.index for one in on_full for score in one.scores if score.index < FULL) < FEW["promoted_documents"]
    best = min(search.bred, key=lambda one: smooth(one.candidate, 0))
    assert best.trial in {one.trial for one in on_full}


def test_the_search_begins_again_on_full_documents_where_they_do_not() -> None:
    search = search_of(opposed)
    assert not strategy_of().trusts_skipped(search.history)
    first = [one for one in search.history if one.generation == 0 and one.candidate.baseline_name is None]
    assert any(score.index < FULL for one in first for score in one.scores)
    later = [one for one in search.bred if one.generation > 2]
    assert later
    assert all(score.index < FULL for one in later for score in one.scores)


def test_bounds_hold(search: Search) -> None:
    strategy = strategy_of()
    assert sum(step.document_passes for step in search.steps) <= strategy.max_document_passes
    assert sum(step.cost(COST) for step in search.steps) <= strategy.max_tokens
    assert strategy.max_tokens < strategy.max_document_passes * 1024  # skipped passes are not priced as full ones
    assert max(max(asked(search, generation), default=0) for generation in range(len(search.steps))) < FULL + SKIPPED
    assert strategy.max_documents == FULL + SKIPPED


@pytest.mark.parametrize("objective", [alike, opposed])
def test_a_budget_in_tokens_is_kept(objective: Objective) -> None:
    budget = Budget(max_tokens=90_000)
    assert sum(step.cost(COST) for step in search_of(objective, budget).steps) <= 90_000


def test_costs_by_index() -> None:
    assert COST.of((0, FULL - 1, FULL)) == 2 * 1024 + 256
    assert COST.of((FULL,), gradients=True) == 3 * 256
    assert COST.extremes(FULL + 1) == (256, 1024)
    assert COST.extremes(FULL) == (1024, 1024)
