"""From the trials and scores of a search to the data of its pictures. Pure; works for a search in any state.

What a picture shows of a large search is bounded here, so that neither an answer nor a figure grows with it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeVar

import numpy as np

from evaluation.documents.document_id import DocumentId
from evaluation.documents.factory import planned_depth
from evaluation.scores.score import DepthBin, DocumentScore, by_depth_bins, summarise
from ropewalk.rope.config import RopeConfig, scale
from ropewalk.rope.critical_pair import ten_period_critical_pair, theoretical_critical_pair
from ropewalk.wire.pictures import (
    BaselineLevel,
    BestSoFarPicture,
    FactorCurve,
    FactorsPicture,
    NeedleCell,
    NeedleColumn,
    NeedlesPicture,
    RaceLine,
    RacePicture,
    Role,
    TrialPoints,
)
from search_space.candidates.cost import NOTHING, Spent
from storage.records import TrialRecord, TrialState

MAX_POINTS = 800  # of best-so-far, beside those that were the best
MAX_LINES = 60  # of a race
BEST_LINES = 20  # of them for the best bred candidates
MAX_LINE_POINTS = 96
DEPTH_BINS = 5

Scores = Mapping[int, Sequence[DocumentScore]]
"""Document scores by trial number, in any order."""
T = TypeVar("T")


def name_of(trial: TrialRecord) -> str:
    """The baseline's name, or `trial <number>`."""
    return trial.candidate.baseline_name or f"trial {trial.number}"


def leader_of(trials: Iterable[TrialRecord], winner: int | None) -> TrialRecord | None:
    """The trial numbered `winner`; without one the best complete trial by search NLL, ties to the earlier."""
    if winner is not None:
        return next((trial for trial in trials if trial.number == winner), None)
    return min(_finite(trials), key=_rank, default=None)


def even_sample(items: Sequence[T], count: int) -> tuple[T, ...]:
    """At most `count` >= 2 of `items` in their order, evenly spaced, the first and the last among them."""
    if len(items) <= count:
        return tuple(items)
    return tuple(items[round(index)] for index in np.linspace(0, len(items) - 1, count).tolist())


# -- factors ---------------------------------------------------------------------------------------------------------


def build_factors(
    trials: Sequence[TrialRecord], *, leader: TrialRecord | None, rope: RopeConfig | None, target_length: int
) -> FactorsPicture:
    """The leader's factors and those of every baseline among `trials`; `rope` is None before the search has begun."""
    return FactorsPicture(
        leader=None if leader is None else _curve(leader),
        critical_pair=None if leader is None else leader.candidate.critical_pair,
        baselines=tuple(_curve(trial) for trial in trials if trial.candidate.baseline_name is not None),
        scale=None if rope is None else scale(rope, target_length),
        theoretical_critical_pair=None if rope is None else theoretical_critical_pair(rope),
        ten_period_critical_pair=None if rope is None else ten_period_critical_pair(rope),
    )


def _curve(trial: TrialRecord) -> FactorCurve:
    return FactorCurve(name=name_of(trial), factors=trial.candidate.scaling.factors.values)


# -- best so far -----------------------------------------------------------------------------------------------------


def build_best_so_far(trials: Sequence[TrialRecord], *, paid: Mapping[int, Spent], spent: Spent) -> BestSoFarPicture:
    """`paid`: what the search had paid for when the trial's last document was scored (nothing for no document).

    Trials that are not complete are points too where they have an NLL, but never the best so far: the best of many
    means over a few documents is luck.
    """
    known = _finite(trials)
    bred = [trial for trial in known if trial.candidate.baseline_name is None]
    bred.sort(key=lambda trial: (paid.get(trial.number, NOTHING).passes, trial.number))
    best = _improvements(trial for trial in bred if trial.state is TrialState.complete)
    kept = {trial.number for trial in (*best, *even_sample(bred, MAX_POINTS))}
    levels = [trial for trial in known if trial.candidate.baseline_name is not None]
    return BestSoFarPicture(
        points=_points([trial for trial in bred if trial.number in kept], paid),
        best=_points(best, paid),
        baselines=tuple(BaselineLevel(name=name_of(trial), nll=_nll(trial)) for trial in sorted(levels, key=_rank)),
        finished=len(bred),
        document_passes=spent.passes,
        tokens=spent.tokens,
    )


def _improvements(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    best: list[TrialRecord] = []
    for trial in trials:
        if not best or _nll(trial) < _nll(best[-1]):
            best.append(trial)
    return best


def _points(trials: Sequence[TrialRecord], paid: Mapping[int, Spent]) -> TrialPoints:
    return TrialPoints(
        trials=tuple(trial.number for trial in trials),
        passes=tuple(paid.get(trial.number, NOTHING).passes for trial in trials),
        tokens=tuple(paid.get(trial.number, NOTHING).tokens for trial in trials),
        nll=tuple(_nll(trial) for trial in trials),
    )


# -- race ------------------------------------------------------------------------------------------------------------


def choose_racers(
    trials: Sequence[TrialRecord], *, leader: TrialRecord | None, limit: int = MAX_LINES
) -> tuple[TrialRecord, ...]:
    """At most `limit` of `trials`, in their order: the leader, baselines, the best bred, an even sample of the rest."""
    chosen = [] if leader is None else [leader.number]
    ranked = [trial.number for trial in sorted(_finite(trials), key=_rank)]
    chosen += _others(chosen, [trial.number for trial in trials if trial.candidate.baseline_name is not None])
    chosen += _others(chosen, ranked)[:BEST_LINES]
    room = max(0, limit - len(chosen))
    rest = _others(chosen, [trial.number for trial in trials])
    chosen += even_sample(rest, room) if room >= 2 else rest[:room]
    kept = set(chosen[:limit])
    return tuple(trial for trial in trials if trial.number in kept)


def _others(taken: Sequence[int], numbers: Iterable[int]) -> list[int]:
    known = set(taken)
    return [number for number in numbers if number not in known]


def build_race(
    racers: Sequence[TrialRecord], scores: Scores, *, leader: TrialRecord | None, candidates: int
) -> RacePicture:
    """One line for each racer that has scores; `candidates` is how many trials have, drawn or not."""
    lines = [_line(trial, scores[trial.number], leader) for trial in racers if scores.get(trial.number)]
    return RacePicture(lines=tuple(lines), candidates=candidates)


def _line(trial: TrialRecord, scores: Sequence[DocumentScore], leader: TrialRecord | None) -> RaceLine:
    points = even_sample(tuple(enumerate(running_mean(scores), start=1)), MAX_LINE_POINTS)
    return RaceLine(
        trial=trial.number,
        name=name_of(trial),
        role=_role(trial, leader),
        documents=tuple(documents for documents, _ in points),
        nll=tuple(nll for _, nll in points),
    )


def running_mean(scores: Sequence[DocumentScore]) -> tuple[float, ...]:
    """NLL over the first 1, 2, ... of `scores` in the order of the documents' indices, nats per answer token."""
    ordered = sorted(scores, key=lambda score: DocumentId.parse(score.document_id).index)
    nats, tokens = np.array([(score.nats, score.tokens) for score in ordered], dtype=np.float64).reshape(-1, 2).T
    return tuple((np.cumsum(nats) / np.cumsum(tokens)).tolist())


def _role(trial: TrialRecord, leader: TrialRecord | None) -> Role:
    if leader is not None and trial.number == leader.number:
        return "leader"
    if trial.candidate.baseline_name is not None:
        return "baseline"
    return "raced_out" if trial.state in (TrialState.pruned, TrialState.failed) else "survivor"


# -- needles ---------------------------------------------------------------------------------------------------------


def build_needles(trials: Sequence[TrialRecord], scores: Scores, *, winner: int | None) -> NeedlesPicture | None:
    """`scores` are those of the validation documents; None while no winner is chosen, or it has no scores.

    Depths are those that were asked for: the needles' own ones would need the model's tokenizer.
    """
    scored = [trial for trial in trials if scores.get(trial.number)]
    chosen = next((trial for trial in scored if trial.number == winner), None)
    if chosen is None:
        return None
    baseline = _best_validated(scored, scores, baselines=True)
    columns = [_column(chosen, scores, "winner")]
    if baseline is not None and baseline.number != winner:
        columns.append(_column(baseline, scores, "best baseline"))
    elif (bred := _best_validated(scored, scores, baselines=False)) is not None and bred.number != winner:
        columns.append(_column(bred, scores, "best bred"))
    return NeedlesPicture(columns=tuple(columns))


def _best_validated(trials: Iterable[TrialRecord], scores: Scores, *, baselines: bool) -> TrialRecord | None:
    """Among those with the most documents: a trial that failed half-way is no best one."""
    asked = [trial for trial in trials if (trial.candidate.baseline_name is not None) == baselines]
    most = max((len(scores[trial.number]) for trial in asked), default=0)
    whole = [trial for trial in asked if len(scores[trial.number]) == most]
    return min(whole, key=lambda trial: (summarise(scores[trial.number]).nll, trial.number), default=None)


def _column(trial: TrialRecord, scores: Scores, role: Literal["winner", "best baseline", "best bred"]) -> NeedleColumn:
    own = scores[trial.number]
    depths = {score.document_id: planned_depth(score.document_id) for score in own}
    cells = tuple(_cell(found) for found in by_depth_bins(depths, own, DEPTH_BINS))
    return NeedleColumn(name=name_of(trial), role=role, nll=summarise(own).nll, cells=cells)


def _cell(found: DepthBin) -> NeedleCell:
    summary = found.summary
    return NeedleCell(
        low=found.low,
        high=found.high,
        documents=0 if summary is None else summary.documents,
        nll=None if summary is None else summary.nll,
        exact_match=None if summary is None else summary.exact_match,
    )


# -- shared ----------------------------------------------------------------------------------------------------------


def _finite(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Those with a finite search NLL; an infinite one cannot be drawn."""
    return [trial for trial in trials if trial.nll is not None and math.isfinite(trial.nll)]


def _nll(trial: TrialRecord) -> float:
    assert trial.nll is not None  # the caller has looked
    return trial.nll


def _rank(trial: TrialRecord) -> tuple[float, int]:
    return _nll(trial), trial.number
