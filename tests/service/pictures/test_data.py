"""The data of a search's pictures, for a search in any state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from evaluation.scores.score import summarise
from ropewalk.rope.critical_pair import ten_period_critical_pair, theoretical_critical_pair
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from ropewalk.wire.pictures import BestSoFarPicture, FactorCurve, FactorsPicture, NeedleCell, RaceLine, TrialPoints
from search_space.candidates.candidate import Candidate
from service.pictures.building import (
    MAX_LINE_POINTS,
    MAX_LINES,
    MAX_POINTS,
    build_best_so_far,
    build_factors,
    build_needles,
    build_race,
    choose_racers,
    even_sample,
    leader_of,
    running_mean,
)
from service.pictures.style import log_ticks
from storage.records import TrialRecord, TrialState
from tests.helpers.stored_searches import (
    BASELINES,
    ROPE,
    TARGET_LENGTH,
    MadeSearch,
    make_search,
    score,
    spent,
    trial_of,
)

MADE = make_search(bred=60, documents=9, raced=True)
finite = st.floats(min_value=0, max_value=20)


def bred(number: int, nll: float | None, state: TrialState = TrialState.complete) -> TrialRecord:
    factors = RescaleFactors(tuple(np.linspace(1.0, 4.0 + number / 100, 16).tolist()))
    return trial_of(
        number, Candidate(scaling=Scaling(factors), critical_pair=6, origin="mutation"), state=state, nll=nll
    )


# -- the leader ------------------------------------------------------------------------------------------------------


def test_the_leader_is_the_best_complete_trial_until_there_is_a_winner() -> None:
    trials = [bred(0, None, TrialState.pruned), bred(1, 0.3), bred(2, 0.2), bred(3, 0.2), bred(4, math.inf)]
    leader = leader_of(trials, None)
    assert leader is not None
    assert leader.number == 2, "ties go to the earlier trial"
    chosen = leader_of(trials, 1)
    assert chosen is not None
    assert chosen.number == 1
    assert leader_of([bred(0, None, TrialState.failed), bred(1, math.inf)], None) is None
    assert leader_of([], None) is None


# -- thinning --------------------------------------------------------------------------------------------------------


@given(size=st.integers(0, 500), count=st.integers(2, 120))
def test_a_sample_is_even_and_keeps_both_ends(size: int, count: int) -> None:
    sample = even_sample(range(size), count)
    assert len(sample) == min(size, count)
    gaps = np.diff(sample)
    if size:
        assert (sample[0], sample[-1]) == (0, size - 1)
    assert not len(gaps) or gaps.min() >= 1
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


# -- factors ---------------------------------------------------------------------------------------------------------


def test_factors_of_the_leader_and_of_every_baseline() -> None:
    leader = leader_of(MADE.trials, None)
    picture = build_factors(MADE.trials, leader=leader, rope=ROPE, target_length=TARGET_LENGTH)
    assert leader is not None
    assert picture.leader == FactorCurve(name=f"trial {leader.number}", factors=leader.candidate.scaling.factors.values)
    assert picture.critical_pair == leader.candidate.critical_pair
    assert {curve.name: curve.factors for curve in picture.baselines} == {
        candidate.baseline_name: candidate.scaling.factors.values for candidate in BASELINES
    }
    assert picture.scale == 4.0
    assert picture.theoretical_critical_pair == theoretical_critical_pair(ROPE)
    assert picture.ten_period_critical_pair == ten_period_critical_pair(ROPE)


def test_factors_before_the_search_has_begun() -> None:
    picture = build_factors((), leader=None, rope=None, target_length=TARGET_LENGTH)
    assert (picture.leader, picture.baselines, picture.scale, picture.critical_pair) == (None, (), None, None)


# -- best so far -----------------------------------------------------------------------------------------------------


@given(
    nlls=st.lists(st.one_of(st.none(), finite, st.just(math.inf)), max_size=40),
    order=st.randoms(use_true_random=False),
)
def test_the_best_so_far_falls_to_the_best(nlls: list[float | None], order: Any) -> None:
    trials = [bred(number, nll) for number, nll in enumerate(nlls)]
    finished_at = list(range(1, len(trials) + 1))
    order.shuffle(finished_at)
    passes = dict(enumerate(finished_at))
    paid = {number: spent(at) for number, at in passes.items()}
    picture = build_best_so_far(trials, paid=paid, spent=spent(len(trials)))
    known = {passes[trial.number]: trial.nll for trial in trials if trial.nll is not None and math.isfinite(trial.nll)}
    assert picture.finished == len(picture.points.trials) == len(known)
    assert picture.points.passes == tuple(sorted(known))
    assert picture.points.tokens == tuple(TARGET_LENGTH * passed for passed in sorted(known))
    for at, nll in zip(picture.best.passes, picture.best.nll, strict=True):
        assert nll == min(value for passed, value in known.items() if passed <= at and value is not None)
    if known:
        assert picture.best.nll[-1] == min(value for value in known.values() if value is not None)


def test_baselines_are_levels_and_no_points() -> None:
    trials = [trial_of(number, candidate, nll=1.0 / (number + 1)) for number, candidate in enumerate(BASELINES)] + [
        trial_of(20, BASELINES[0], state=TrialState.failed)
    ]
    picture = build_best_so_far(trials, paid={}, spent=spent(64))
    assert [level.name for level in picture.baselines] == [candidate.baseline_name for candidate in BASELINES][::-1]
    assert picture.points.trials == picture.best.trials == ()
    assert (picture.finished, picture.document_passes, picture.tokens) == (0, 64, 64 * TARGET_LENGTH)


def test_many_points_are_thinned_out_but_the_best_ones_stay() -> None:
    nlls = 2.0 + np.sin(np.arange(5000))
    nlls[[7, 1001, 4003]] = [0.9, 0.8, 0.7]
    trials = [bred(number, float(nll)) for number, nll in enumerate(nlls)]
    picture = build_best_so_far(trials, paid={n: spent(n + 1) for n in range(5000)}, spent=spent(5000))
    assert picture.best.trials[-3:] == (7, 1001, 4003)
    assert set(picture.best.trials) <= set(picture.points.trials)
    assert MAX_POINTS <= len(picture.points.trials) <= MAX_POINTS + len(picture.best.trials)
    assert picture.finished == 5000


# -- race ------------------------------------------------------------------------------------------------------------


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 10_000), st.floats(0, 50), st.integers(1, 9)),
        min_size=1,
        max_size=30,
        unique_by=lambda row: row[0],
    )
)
def test_the_running_mean_ends_at_the_mean(rows: list[tuple[int, float, int]]) -> None:
    scores = [score("search", index, nats, tokens=tokens) for index, nats, tokens in rows]
    means = running_mean(scores)
    assert len(means) == len(rows)
    assert means[-1] == pytest.approx(summarise(scores).nll)
    first = min(rows)
    assert means[0] == pytest.approx(first[1] / first[2]), "documents come in the order of their indices"


def race_of(made: MadeSearch, winner: int | None = None) -> tuple[RaceLine, ...]:
    leader = leader_of(made.trials, winner)
    racers = choose_racers(made.trials, leader=leader)
    return build_race(racers, made.search, leader=leader, candidates=len(made.search)).lines


def test_roles_in_the_race() -> None:
    lines = {line.trial: line for line in race_of(MADE, winner=MADE.best_bred.number)}
    assert lines[MADE.best_bred.number].role == "leader"
    assert [lines[number].role for number in range(len(BASELINES))] == ["baseline"] * len(BASELINES)
    out = [trial for trial in MADE.trials if trial.state is TrialState.pruned and trial.number in lines]
    assert out
    assert all(lines[trial.number].role == "raced_out" for trial in out)
    assert all(lines[trial.number].documents == (1, 2, 3, 4) for trial in out), "half of nine documents"
    survivors = [line for line in lines.values() if line.role == "survivor"]
    assert survivors
    assert all(line.documents[-1] == 9 for line in survivors)


def test_a_race_draws_the_baselines_the_best_and_some_of_the_rest() -> None:
    made = make_search(bred=400, documents=200)
    lines = race_of(made)
    assert len(lines) == MAX_LINES
    assert {line.trial for line in lines} >= set(range(len(BASELINES)))
    ranked = sorted(made.trials, key=lambda trial: trial.nll or 0.0)
    assert {line.trial for line in lines} >= {trial.number for trial in ranked[:20]}
    assert [line.trial for line in lines] == sorted(line.trial for line in lines)
    assert all(len(line.documents) == MAX_LINE_POINTS and line.documents[-1] == 200 for line in lines)


@given(limit=st.integers(0, 80))
def test_a_race_keeps_to_its_limit(limit: int) -> None:
    leader = leader_of(MADE.trials, None)
    racers = choose_racers(MADE.trials, leader=leader, limit=limit)
    assert len(racers) == min(limit, len(MADE.trials))
    assert len({trial.number for trial in racers}) == len(racers)
    assert limit == 0 or leader in racers


def test_trials_without_scores_have_no_line() -> None:
    trials = [bred(0, None, TrialState.waiting), bred(1, None, TrialState.failed), bred(2, None, TrialState.running)]
    scores = {1: [score("search", 3, 1.4)], 2: [score("search", 0, 0.7)]}
    lines = build_race(trials, scores, leader=None, candidates=2).lines
    assert [(line.trial, line.role) for line in lines] == [(1, "raced_out"), (2, "survivor")]
    assert [line.nll[-1] for line in lines] == pytest.approx([0.2, 0.1])


# -- needles ---------------------------------------------------------------------------------------------------------


def test_needles_of_the_winner_and_the_best_baseline() -> None:
    picture = build_needles(MADE.trials, MADE.validation, winner=MADE.best_bred.number)
    assert picture is not None
    winner, other = picture.columns
    assert (winner.name, winner.role) == (f"trial {MADE.best_bred.number}", "winner")
    scores = MADE.validation[MADE.best_bred.number]
    assert winner.nll == summarise(scores).nll
    assert sum(cell.documents for cell in winner.cells) == len(scores)
    weighted = sum((cell.nll or 0.0) * cell.documents for cell in winner.cells) / len(scores)
    assert weighted == pytest.approx(winner.nll), "every document has as many answer tokens"
    levels = {
        MADE.trials[number].candidate.baseline_name: summarise(MADE.validation[number]).nll for number in range(8)
    }
    assert (other.name, other.role) == (min(levels, key=lambda name: levels[name]), "best baseline")
    assert [(cell.low, cell.high) for cell in other.cells] == [(0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1)]


def test_a_winning_baseline_stands_beside_the_best_bred_candidate() -> None:
    nlls = {number: summarise(MADE.validation[number]).nll for number in range(8)}
    best = min(nlls, key=lambda number: nlls[number])
    picture = build_needles(MADE.trials, MADE.validation, winner=best)
    assert picture is not None
    assert [column.role for column in picture.columns] == ["winner", "best bred"]
    alone = build_needles(MADE.trials[:8], {best: MADE.validation[best]}, winner=best)
    assert alone is not None
    assert [column.role for column in alone.columns] == ["winner"]


def test_a_baseline_that_failed_half_way_is_not_the_best_one() -> None:
    whole = [score("validation", index, 2.0) for index in range(6)]
    trials = [trial_of(0, BASELINES[0]), trial_of(1, BASELINES[1], nll=1.0), bred(2, 0.1)]
    picture = build_needles(
        trials, {0: whole[:1], 1: [score("validation", i, 3.0) for i in range(6)], 2: whole}, winner=2
    )
    assert picture is not None
    assert picture.columns[1].name == BASELINES[1].baseline_name


def test_no_needles_before_the_winner_is_chosen() -> None:
    assert build_needles(MADE.trials, MADE.validation, winner=None) is None
    assert build_needles(MADE.trials, {}, winner=0) is None
    assert build_needles((), {}, winner=None) is None


def test_a_depth_without_documents_is_an_empty_cell() -> None:
    picture = build_needles([bred(0, 0.1)], {0: [score("validation", 0, 0.7)]}, winner=0)
    assert picture is not None
    cells = picture.columns[0].cells
    assert sorted(cell.documents for cell in cells) == [0, 0, 0, 0, 1]
    assert all((cell.nll is None) == (cell.documents == 0) for cell in cells)


# -- what is refused -------------------------------------------------------------------------------------------------

POINTS = TrialPoints(trials=(0, 1), passes=(3, 4), tokens=(30, 40), nll=(0.5, 0.5))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TrialPoints(trials=(0,), passes=(1, 2), tokens=(1, 2), nll=(0.1,)), "of one length"),
        (lambda: TrialPoints(trials=(0, 1), passes=(2, 1), tokens=(1, 2), nll=(0.1, 0.2)), "passes must be ascending"),
        (lambda: TrialPoints(trials=(0, 1), passes=(1, 2), tokens=(2, 1), nll=(0.1, 0.2)), "tokens must be ascending"),
        (lambda: TrialPoints(trials=(0,), passes=(1,), tokens=(9,), nll=(math.nan,)), "finite"),
        (lambda: FactorCurve(name="x", factors=(0.5,)), "greater than or equal to 1"),
        (lambda: RaceLine(trial=0, name="x", role="leader", documents=(1, 1), nll=(0.1, 0.1)), "must be ascending"),
        (lambda: RaceLine(trial=0, name="x", role="loser", documents=(1,), nll=(0.1,)), "'leader', 'baseline'"),  # type: ignore[arg-type]
        (lambda: NeedleCell(low=0, high=0.2, documents=0, nll=0.1, exact_match=None), "only when it has documents"),
        (
            lambda: BestSoFarPicture(
                points=POINTS, best=POINTS, baselines=(), finished=2, document_passes=4, tokens=40
            ),
            "must beat the one before",
        ),
        (
            lambda: FactorsPicture(
                leader=FactorCurve(name="x", factors=(1, 2)),
                critical_pair=1,
                baselines=(FactorCurve(name="pi", factors=(4,)),),
                scale=4,
                theoretical_critical_pair=1,
                ten_period_critical_pair=0,
            ),
            "of one length",
        ),
    ],
)
def test_data_that_cannot_be_drawn_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        make()


# -- axes ------------------------------------------------------------------------------------------------------------


@given(low=st.floats(1e-6, 10), span=st.floats(2.5, 1e6))
def test_a_log_axis_has_a_few_ticks_within_it(low: float, span: float) -> None:
    ticks = log_ticks(low, low * span)
    assert 1 <= len(ticks) <= 13
    assert ticks == sorted(ticks)
    assert all(low <= tick <= low * span for tick in ticks)


def test_ticks_are_round_numbers() -> None:
    assert log_ticks(0.009, 1.1) == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    assert log_ticks(1e-6, 20) == [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0]
