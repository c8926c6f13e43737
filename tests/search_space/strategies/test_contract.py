"""What every strategy promises. Every row of the table is put to the test, small where SMALL says how."""

from __future__ import annotations

import math
import random
from functools import lru_cache

import pytest

from ropewalk.rope.config import RopeConfig
from search_space.candidates.candidate import Candidate
from search_space.candidates.cost import PassCost
from search_space.candidates.step import Budget
from search_space.errors import InvalidStrategy
from search_space.strategies.base import Strategy, StrategyContext
from search_space.strategies.registry import STRATEGIES, make_strategy
from search_space.strategies.seeds import seed_baselines
from tests.helpers.breeding import Search, play, smooth
from tests.helpers.strategy_cases import NEEDS_CMAES

pytestmark = pytest.mark.usefixtures("coarse_formulas")

SMALL: dict[str, dict[str, dict[str, object]]] = {
    "auto": {
        "auto": {"startup": 6, "batch": 3, "generations": 4, "first_documents": 1, "leaders": 2, "min_gain": 0.0},
    },
    "evolution": {"evolution": {"population": 12, "iterations": 3, "parents": 6, "mutations": 4, "crossovers": 4}},
    "optuna": {
        "tpe": {"sampler": "TPESampler", "startup": 8, "batch": 4, "candidates": 24},
        "cma-es": {"sampler": "CmaEsSampler", "startup": 10, "batch": 4, "popsize": 4, "candidates": 28},
        "gp": {"sampler": "GPSampler", "startup": 4, "batch": 1, "candidates": 7},
        "random": {"sampler": "RandomSampler", "startup": 8, "batch": 4, "candidates": 24},
    },
    "gradient": {"gradient": {"startup": 16, "steps": 12, "batch": 1, "check_every": 4}},
}
CASES = {case: (name, arguments) for name in STRATEGIES for case, arguments in SMALL.get(name, {name: {}}).items()}
MARKS = {
    "auto": [pytest.mark.slow],  # each point costs a fit of its surrogate
    "cma-es": [NEEDS_CMAES],
    "gp": [pytest.mark.torch, pytest.mark.slow],  # and here one of a GP
}
PARAMETERS = [pytest.param(case, marks=MARKS.get(case, ())) for case in CASES]
EVERY = pytest.mark.parametrize("case", PARAMETERS)
# These go on whatever some candidates score. A descent has one line to follow: see gradient/test_strategy.py.
POPULATION = pytest.mark.parametrize("case", [one for one in PARAMETERS if one.values != ("gradient",)])

POCKET = RopeConfig(rope_theta=1000.0, rotary_dim=32, original_max_position_embeddings=256)
PHI = RopeConfig(rope_theta=10_000.0, rotary_dim=96, original_max_position_embeddings=4096)
TINY = RopeConfig(rope_theta=10_000.0, rotary_dim=8, original_max_position_embeddings=64)
DOCUMENTS = 3


def _context(
    *,
    rope: RopeConfig = POCKET,
    length: int = 1024,
    seed: int = 0,
    attention_factor: float | None = 1.0,
    budget: Budget | None = None,
    skipped: PassCost | None = None,
) -> StrategyContext:
    return StrategyContext(
        rope=rope,
        target_length=length,
        seed=seed,
        attention_factor=attention_factor,
        documents=DOCUMENTS,
        budget=budget or Budget(),
        skipped=skipped,
    )


def _strategy(case: str, context: StrategyContext) -> Strategy:
    name, arguments = CASES[case]
    return make_strategy(name, arguments, context)


@lru_cache
def _search(case: str, seed: int = 0) -> Search:
    """A whole search, which several tests look at."""
    return play(_strategy(case, _context(seed=seed)))


def _key(candidate: Candidate) -> tuple[tuple[float, ...], float]:
    return candidate.scaling.factors.values, candidate.scaling.attention_factor


@EVERY
def test_generation_0_holds_every_baseline_and_candidates_of_its_own(case: str) -> None:
    first = _search(case).steps[0]
    baselines = tuple(candidate for candidate in first.candidates if candidate.baseline_name is not None)
    assert baselines == seed_baselines(_context())
    assert first.bred


@EVERY
def test_a_resumed_search_proposes_what_the_uninterrupted_one_did(case: str) -> None:
    search = _search(case)
    assert len(search.steps) > 3
    for generation, (step, history) in enumerate(zip(search.steps, search.histories, strict=True)):
        assert _strategy(case, _context()).propose(generation, history) == step


@EVERY
def test_the_order_of_history_and_later_generations_do_not_matter(case: str) -> None:
    search, strategy = _search(case), _strategy(case, _context())
    for generation in (1, 2):
        later = [scored for scored in search.history if scored.generation >= generation]
        history = [*search.histories[generation], *later]
        shuffled = random.Random(generation).sample(history, len(history))
        assert later
        assert strategy.propose(generation, history[::-1]) == search.steps[generation]
        assert strategy.propose(generation, shuffled) == search.steps[generation]


@EVERY
def test_another_seed_gives_other_candidates(case: str) -> None:
    one, other = ({_key(scored.candidate) for scored in _search(case, seed).bred} for seed in (0, 1))
    assert not one & other


@EVERY
def test_no_candidate_is_proposed_twice(case: str) -> None:
    search = _search(case)
    bred = [_key(scored.candidate) for scored in search.bred]
    assert len(set(bred)) == len(bred)
    assert not set(bred) & {_key(candidate) for candidate in seed_baselines(_context())}


@EVERY
def test_a_search_ends_within_what_the_strategy_says_it_asks_for(case: str) -> None:
    strategy, search = _strategy(case, _context()), _search(case)
    assert search.steps[-1].is_last
    assert strategy.propose(len(search.steps), search.history).is_last
    assert len(search.bred) <= strategy.max_candidates
    assert sum(step.document_passes for step in search.steps) <= strategy.max_document_passes
    assert sum(step.cost(PassCost(each=1024)) for step in search.steps) <= strategy.max_tokens
    asked = {document for step in search.steps for document in step.documents}
    asked |= {document for step in search.steps for more in step.extend for document in more.documents}
    assert max(asked) < strategy.max_documents


@EVERY
def test_a_budget_of_candidates_is_kept_to_the_last_one(case: str) -> None:
    most = len(_search(case).steps[0].bred) + 3
    strategy = _strategy(case, _context(budget=Budget(max_candidates=most)))
    assert strategy.max_candidates == most
    assert len(play(strategy).bred) == most


@EVERY
def test_a_budget_of_document_passes_is_kept(case: str) -> None:
    # Two more candidates, and one pass that no candidate can be scored with.
    most = _search(case).steps[0].document_passes + 2 * DOCUMENTS + 1
    strategy = _strategy(case, _context(budget=Budget(max_document_passes=most)))
    assert most - DOCUMENTS < strategy.max_document_passes <= most
    assert most - DOCUMENTS < sum(step.document_passes for step in play(strategy).steps) <= most


@EVERY
def test_a_budget_of_tokens_is_kept_as_one_of_passes_is(case: str) -> None:
    most = _search(case).steps[0].document_passes + 2 * DOCUMENTS + 1
    for skipped, tokens in ((None, 1024), (PassCost(each=100), 100)):
        strategy = _strategy(case, _context(budget=Budget(max_tokens=most * tokens + 7), skipped=skipped))
        assert (most - DOCUMENTS) * tokens < strategy.max_tokens <= most * tokens + 7
        steps = play(strategy).steps
        assert steps == play(_strategy(case, _context(budget=Budget(max_document_passes=most)))).steps
        assert sum(step.cost(PassCost(each=tokens)) for step in steps) <= strategy.max_tokens


@POPULATION
def test_patience_ends_a_search_that_finds_nothing_better(case: str) -> None:
    strategy = _strategy(case, _context(budget=Budget(patience=1)))
    search = play(strategy, lambda candidate, document: 1.0)
    assert [bool(step.bred) for step in search.steps[:3]] == [True, True, False]
    assert not any(step.candidates for step in search.steps[2:])  # a race may still run on


@EVERY
def test_a_budget_that_the_first_generation_overruns_is_refused(case: str) -> None:
    first = _search(case).steps[0]
    for budget in (
        Budget(max_candidates=len(first.bred) - 1),
        Budget(max_document_passes=first.document_passes - 1),
        Budget(max_tokens=first.document_passes * 1024 - 1),
    ):
        with pytest.raises(InvalidStrategy, match="first generation"):
            _strategy(case, _context(budget=budget))


@EVERY
@pytest.mark.parametrize(("rope", "length"), [(POCKET, 300), (PHI, 131_072), (TINY, 4096)])
def test_every_candidate_fits_the_model(case: str, rope: RopeConfig, length: int) -> None:
    strategy = _strategy(case, _context(rope=rope, length=length, attention_factor=None))
    search = play(strategy, generations=3)
    assert len({scored.generation for scored in search.bred}) > 1
    for scored in search.bred:
        scored.candidate.scaling.factors.check_fits(rope.num_pairs)
        assert scored.candidate.genes
        assert scored.candidate.scaling.attention_factor >= 1.0


@EVERY
def test_a_fixed_attention_factor_is_carried_by_every_candidate_and_is_no_gene(case: str) -> None:
    for scored in play(_strategy(case, _context(attention_factor=1.07)), generations=2).history:
        assert scored.candidate.scaling.attention_factor == 1.07
        assert "attention_factor" not in {gene.name for gene in scored.candidate.genes}


@EVERY
def test_a_searched_attention_factor_is_a_gene(case: str) -> None:
    bred = play(_strategy(case, _context(attention_factor=None)), generations=2).bred
    for scored in bred:
        genes = {gene.name: gene.value for gene in scored.candidate.genes}
        assert genes["attention_factor"] == scored.candidate.scaling.attention_factor
    assert len({scored.candidate.scaling.attention_factor for scored in bred}) > 3


@POPULATION
def test_failed_candidates_do_not_end_a_search(case: str) -> None:
    def some_fail(candidate: Candidate, document: int) -> float:
        return math.inf if candidate.scaling.factors.values[-1] > 5.0 else smooth(candidate, document)

    def all_fail(candidate: Candidate, document: int) -> float:
        return math.inf

    some, every = (play(_strategy(case, _context()), fails, generations=3) for fails in (some_fail, all_fail))
    assert 0 < sum(scored.failed for scored in some.bred) < len(some.bred)
    assert all(search.steps[2].bred for search in (some, every))


@EVERY
def test_arguments_that_are_not_known_are_refused_by_name(case: str) -> None:
    name, arguments = CASES[case]
    with pytest.raises(InvalidStrategy, match=r"arguments are .*, but got 'popualtion'"):
        make_strategy(name, {**arguments, "popualtion": 3}, _context())


@EVERY
def test_generations_count_from_0(case: str) -> None:
    with pytest.raises(InvalidStrategy, match="generation=-1"):
        _strategy(case, _context()).propose(-1, ())
