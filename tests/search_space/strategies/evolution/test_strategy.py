from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk.errors import InvalidTargetLength
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.critical_pair import ten_period_critical_pair, theoretical_critical_pair
from search_space.candidates.baselines import BASELINE_NAMES
from search_space.candidates.candidate import Candidate, ScoredCandidate
from search_space.errors import InvalidStrategy
from search_space.strategies.base import Strategy, StrategyContext
from search_space.strategies.evolution.settings import EvolutionSettings
from search_space.strategies.evolution.strategy import EvolutionStrategy
from search_space.strategies.registry import make_strategy
from tests.helpers.strategy_cases import ropes, scales, target_length

POCKET = RopeConfig(rope_theta=1000.0, rotary_dim=32, original_max_position_embeddings=256)
SMALL: dict[str, object] = {"population": 12, "iterations": 3, "parents": 6, "mutations": 4, "crossovers": 4}


def _context(seed: int = 0, attention_factor: float | None = 1.0, length: int = 1024) -> StrategyContext:
    return StrategyContext(rope=POCKET, target_length=length, seed=seed, attention_factor=attention_factor)


def _nll(candidate: Candidate) -> float:
    """A score with one best vector inside the space."""
    distance = sum(abs(math.log(value / 5.2)) for value in candidate.scaling.factors.values[6:])
    return distance + abs(candidate.scaling.attention_factor - 1.1)


def _run(strategy: Strategy, generations: int) -> list[ScoredCandidate]:
    history: list[ScoredCandidate] = []
    for generation in range(generations):
        start = len(history)
        history += [
            ScoredCandidate(trial=start + i, generation=generation, candidate=candidate, nll=_nll(candidate))
            for i, candidate in enumerate(strategy.propose(generation, history).candidates)
        ]
    return history


def test_generation_0_is_every_baseline_then_the_initial_population() -> None:
    found = make_strategy("evolution", {}, _context()).propose(0, ()).candidates
    assert [c.origin for c in found[:8]] == [f"baseline:{name}" for name in BASELINE_NAMES]
    initial = found[8:]
    assert len(initial) == 64
    assert {c.origin for c in initial} == {"initial"}
    # Algorithm 1: one flat candidate for each critical pair between the ten-period and the theoretical one.
    pairs = range(ten_period_critical_pair(POCKET), theoretical_critical_pair(POCKET) + 1)
    assert [c.critical_pair for c in initial[: len(pairs)]] == list(pairs)
    for pair, candidate in zip(pairs, initial, strict=False):
        assert len(set(candidate.scaling.factors.values[pair:])) == 1
        assert 4.0 <= candidate.scaling.factors.values[-1] <= 8.0


@pytest.mark.slow
def test_the_whole_reference_run_is_the_papers_budget() -> None:
    strategy = make_strategy("evolution", {}, _context())
    history = _run(strategy, 42)
    bred = [scored for scored in history if scored.candidate.genes]
    assert len(bred) == 1344  # 64 + 40 x 32
    assert max(scored.generation for scored in history) == 40
    assert len({scored.candidate.scaling.factors for scored in bred}) == 1344
    generation = [scored.candidate for scored in history if scored.generation == 7]
    assert len(generation) == 32
    assert [candidate.origin for candidate in generation[:16]] == ["mutation"] * 16
    # A crossover that finds nothing new becomes a mutation of its better parent, so there are fewer than 40 x 16.
    assert 200 < [scored.candidate.origin for scored in bred].count("crossover") <= 640
    # And it learns.
    best = [min(s.nll for s in bred if s.generation <= g) for g in (0, 20, 40)]
    assert best[2] < best[1] < best[0]


@pytest.mark.slow
@given(st.integers(0, 2**63), st.sampled_from([1.0, 1.1, None]), st.randoms(use_true_random=False))
@settings(max_examples=15)
def test_proposals_depend_on_the_seed_and_not_on_the_order_of_history(
    seed: int, attention_factor: float | None, shuffler: random.Random
) -> None:
    context = _context(seed, attention_factor)
    history = _run(make_strategy("evolution", SMALL, context), 3)
    shuffled = list(history)
    shuffler.shuffle(shuffled)
    # A fresh strategy, as on another machine.
    resumed = make_strategy("evolution", SMALL, context)
    assert resumed.propose(3, shuffled) == make_strategy("evolution", SMALL, context).propose(3, history)
    for generation in range(3):
        expected = tuple(s.candidate for s in history if s.generation == generation)
        assert resumed.propose(generation, shuffled).candidates == expected


def test_other_seeds_give_other_candidates() -> None:
    found = [make_strategy("evolution", SMALL, _context(seed)).propose(0, ()).candidates[8:] for seed in range(3)]
    assert len({candidate.scaling.factors for population in found for candidate in population}) == 36


@pytest.mark.slow
@given(ropes, scales, st.integers(0, 1000), st.sampled_from([1.0, None]))
@settings(max_examples=25)
def test_every_proposal_keeps_every_constraint(
    rope: RopeConfig, scale: float, seed: int, attention_factor: float | None
) -> None:
    length = target_length(rope, scale)
    context = StrategyContext(rope=rope, target_length=length, seed=seed, attention_factor=attention_factor)
    history = _run(make_strategy("evolution", SMALL, context), 3)
    s = length / rope.original_max_position_embeddings
    for scored in history:
        candidate = scored.candidate
        candidate.scaling.factors.check_fits(rope.num_pairs)
        if not candidate.genes:
            continue
        pair = candidate.critical_pair
        assert pair is not None
        assert ten_period_critical_pair(rope) <= pair <= theoretical_critical_pair(rope)
        tail = candidate.scaling.factors.values[pair:]
        assert all(s - 1e-9 <= value <= 2 * s + 1e-9 for value in tail)
        assert all(value == round(value, 2) for value in tail)
        genes = {gene.name: gene.value for gene in candidate.genes}
        assert genes.pop("critical_pair") == pair
        attention = genes.pop("attention_factor", None)
        assert attention == (None if attention_factor is not None else candidate.scaling.attention_factor)
        assert 1.0 <= candidate.scaling.attention_factor <= 1 + 0.2 * math.log(s) + 1e-9
        assert tuple(genes.values()) == tail
    keys = [(s.candidate.scaling.factors, s.candidate.scaling.attention_factor) for s in history if s.candidate.genes]
    assert len(set(keys)) == len(keys)


def test_a_fixed_attention_factor_is_carried_by_every_candidate() -> None:
    found = make_strategy("evolution", SMALL, _context(attention_factor=1.07)).propose(0, ()).candidates
    assert {candidate.scaling.attention_factor for candidate in found} == {1.07}


def test_a_searched_attention_factor_adds_the_baselines_own() -> None:
    found = make_strategy("evolution", SMALL, _context(attention_factor=None)).propose(0, ()).candidates
    seeds = {c.origin: c.scaling.attention_factor for c in found if not c.genes}
    own = 0.1 * math.log(4) + 1
    assert seeds == {
        **{f"baseline:{name}": 1.0 for name in BASELINE_NAMES},
        "baseline:yarn+attention": own,
        "baseline:yarn_critical+attention": own,
    }
    assert len({c.scaling.attention_factor for c in found if c.genes}) > 3


def test_breeding_reads_the_best_candidates_with_genes_and_names_them_as_parents() -> None:
    strategy = make_strategy("evolution", SMALL, _context())
    history = [
        ScoredCandidate(trial=100 + i, generation=0, candidate=c, nll=0.0 if not c.genes else float(i))
        for i, c in enumerate(strategy.propose(0, ()).candidates)
    ]
    best = {scored.trial for scored in sorted(history, key=lambda s: s.nll) if scored.candidate.genes}
    best = set(sorted(best)[:6])
    children = strategy.propose(1, history).candidates
    assert len(children) == 8
    for child in children:
        assert child.parents
        assert set(child.parents) <= best
        assert len(set(child.parents)) == (2 if child.origin == "crossover" else 1)
        assert list(child.parents) == sorted(child.parents)  # the better one first


def test_equal_scores_are_ranked_by_trial() -> None:
    strategy = make_strategy("evolution", {**SMALL, "parents": 2}, _context())
    history = [
        ScoredCandidate(trial=i, generation=0, candidate=c, nll=1.0)
        for i, c in enumerate(strategy.propose(0, ()).candidates)
    ]
    parents = {trial for child in strategy.propose(1, history[::-1]).candidates for trial in child.parents}
    assert parents == {8, 9}  # after the eight baselines


def test_failed_candidates_are_bred_from_only_when_nothing_else_is_there() -> None:
    strategy = make_strategy("evolution", SMALL, _context())
    found = strategy.propose(0, ()).candidates
    failed = [
        ScoredCandidate(trial=i, generation=0, candidate=c, nll=1.0 if i in (12, 15) else math.inf)
        for i, c in enumerate(found)
    ]
    assert {trial for child in strategy.propose(1, failed).candidates for trial in child.parents} == {12, 15}
    all_failed = [replace(scored, nll=math.inf) for scored in failed]
    assert len(strategy.propose(1, all_failed).candidates) == 8
    only_baselines = all_failed[:8]
    assert {child.origin for child in strategy.propose(1, only_baselines).candidates} == {"initial"}


def test_later_generations_in_history_are_ignored() -> None:
    strategy = make_strategy("evolution", SMALL, _context())
    history = _run(strategy, 3)
    assert (
        strategy.propose(1, history).candidates
        == strategy.propose(1, [s for s in history if s.generation == 0]).candidates
    )


def test_ends_after_its_iterations() -> None:
    strategy = make_strategy("evolution", SMALL, _context())
    history = _run(strategy, 4)
    assert strategy.propose(3, history).candidates
    assert strategy.propose(4, history).candidates == ()
    assert make_strategy("evolution", {**SMALL, "iterations": 0}, _context()).propose(1, history).candidates == ()
    with pytest.raises(InvalidStrategy, match="generation=-1"):
        strategy.propose(-1, history)


@pytest.mark.slow
def test_a_used_up_space_ends_with_shorter_generations() -> None:
    rope = RopeConfig(rope_theta=10_000.0, rotary_dim=4, original_max_position_embeddings=32)
    context = StrategyContext(rope=rope, target_length=128, seed=0, attention_factor=1.0)
    history = _run(make_strategy("evolution", {**SMALL, "grid_step": 2.0, "iterations": 20}, context), 20)
    bred = [scored.candidate.scaling.factors for scored in history if scored.candidate.genes]
    # Critical pairs 0 and 1, each factor one of 4, 6, 8: 6 sorted tails of two and 3 of one, less (4, 4), which is PI,
    # and (1, 4), which is NTK.
    assert len(bred) == len(set(bred)) == 7
    assert history[-1].generation < 19


def test_a_population_smaller_than_the_range_of_pairs_spreads_over_it() -> None:
    found = (
        make_strategy("evolution", {**SMALL, "population": 3, "parents": 2}, _context()).propose(0, ()).candidates[8:]
    )
    assert [candidate.critical_pair for candidate in found] == [4, 6, 9]


def test_bounds_are_settings() -> None:
    found = (
        make_strategy("evolution", {"lower_multiple": 0.5, "upper_multiple": 3}, _context()).propose(0, ()).candidates
    )
    genes = [gene for candidate in found for gene in candidate.genes if gene.name.startswith("factor_")]
    assert {(gene.low, gene.high, gene.step) for gene in genes} == {(2.0, 12.0, 0.01)}
    assert min(gene.value for gene in genes) < 4.0 < 8.0 < max(gene.value for gene in genes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"populaton": 3}, "evolution's arguments are population, iterations, .* but got 'populaton'"),
        ({"population": 0}, "population must be at least 1"),
        ({"population": 1.5}, "population must be a whole number"),
        ({"population": True}, "population must be a whole number"),
        ({"population": "64"}, "population must be a whole number"),
        ({"iterations": -1}, "iterations must be at least 0"),
        ({"parents": 0}, "parents must be at least 1"),
        ({"parents": 65}, "parents must be at most population"),
        ({"parents": 1}, "crossovers need at least 2 parents"),
        ({"mutations": -1}, "mutations must be at least 0"),
        ({"mutations": 0, "crossovers": 0}, "must not both be 0"),
        ({"mutation_probability": 0.0}, "mutation_probability"),
        ({"mutation_probability": 1.1}, "mutation_probability"),
        ({"mutation_probability": math.nan}, "mutation_probability"),
        ({"mutation_probability": None}, "mutation_probability must be a number"),
        ({"grid_step": 0.0}, "grid step"),
        ({"grid_step": -1.0}, "grid step"),
        ({"grid_step": 7.0, "upper_multiple": 1.5}, "search space must not be empty"),
        ({"max_crossover_tries": 0}, "max_crossover_tries"),
        ({"lower_multiple": 2.0, "upper_multiple": 1.0}, "at most upper_multiple"),
        ({"lower_multiple": 0.0}, "lower_multiple must be positive"),
        ({"lower_multiple": 0.2}, "factors at 1 or above"),
        ({"upper_multiple": math.inf}, "upper_multiple"),
        ({"upper_multiple": 1e308}, "must be finite"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidStrategy, match=message):
        make_strategy("evolution", arguments, _context())


def test_unknown_strategies_and_impossible_contexts_are_refused() -> None:
    with pytest.raises(InvalidStrategy, match=r"must be one of auto, .*evolution.*, but got 'cma'"):
        make_strategy("cma", {}, _context())
    with pytest.raises(InvalidTargetLength):
        _context(length=128)
    with pytest.raises(InvalidStrategy, match="seed must be at least 0"):
        _context(seed=-1)
    for factor in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InvalidStrategy, match="attention_factor"):
            _context(attention_factor=factor)


def test_settings_defaults_are_the_papers() -> None:
    found = EvolutionSettings.from_arguments({})
    assert found == EvolutionSettings()
    assert (found.population, found.iterations, found.parents, found.mutations, found.crossovers) == (
        64,
        40,
        32,
        16,
        16,
    )
    assert (found.mutation_probability, found.grid_step, found.max_crossover_tries) == (0.3, 0.01, 20)


def test_slots_draw_from_their_own_stream() -> None:
    """The first slot's draw is the first of SeedSequence([seed, generation, slot])."""
    strategy = EvolutionStrategy(EvolutionSettings(), _context(seed=5))
    candidate = strategy.propose(0, ()).candidates[8 + 2]
    rng = np.random.default_rng(np.random.SeedSequence([5, 0, 2]))
    assert candidate.scaling.factors.values[-1] == round(int(rng.integers(400, 800, endpoint=True)) * 0.01, 6)


def test_the_range_of_critical_pairs_is_a_setting() -> None:
    strategy = make_strategy("evolution", {"lowest_critical_pair": 6, "highest_critical_pair": 7}, _context())
    bred = strategy.propose(0, ()).bred
    assert {candidate.critical_pair for candidate in bred} == {6, 7}
    for arguments in ({"lowest_critical_pair": 12}, {"highest_critical_pair": 16}, {"lowest_critical_pair": 6.5}):
        with pytest.raises(InvalidStrategy, match=r"critical.pair"):
            make_strategy("evolution", arguments, _context())
