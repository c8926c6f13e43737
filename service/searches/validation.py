"""Finalists on held-out documents in growing rounds, until the winner is separated or the documents end.

Pure: what to score next and what the outcome is follow from the scores alone, so that a controller that takes over goes
on with the same round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.scores.score import DocumentScore, PairedDifference, paired_difference, summarise
from search_space.candidates.candidate import ScoredCandidate
from search_space.candidates.ledger import comparable
from search_space.strategies.racing import is_worse

FINALISTS = 8  # searched candidates that go to validation
FIRST_ROUND = 8  # documents; each later round doubles them
ALPHA = 0.05
# A bootstrap over fewer documents than this is too narrow on heavy-tailed scores to end a search on.
SEPARATION_DOCUMENTS = 40
# From this many documents on, half of the bred finalists are dropped in a round, whatever the test says.
HALVING_DOCUMENTS = 16
# The same of baselines: later, as which formula is the best one is part of the result.
BASELINE_HALVING_DOCUMENTS = 64

Scores = Mapping[int, Sequence[DocumentScore]]
"""trial -> its validation scores in the order of the documents, so far."""
Shares = NDArray[np.float64] | None
"""(documents, documents): how much text each two of the validation documents have in common; None: nothing is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entrant:
    """A finalist: an analytic baseline or a bred candidate."""

    trial: int
    is_baseline: bool

    @classmethod
    def of(cls, scored: ScoredCandidate) -> Entrant:
        """What validation needs to know of a trial."""
        return cls(trial=scored.trial, is_baseline=scored.candidate.baseline_name is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """The first `documents` validation documents, for these trials."""

    documents: int
    trials: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Who is left after the last round: the best bred finalist (None: none could be scored) against the best baseline.

    `difference`: its NLL minus the best baseline's, nats per answer token, paired by document, 95 % bootstrap interval.
    """

    best_baseline: int
    best_bred: int | None
    difference: PairedDifference | None

    @property
    def winner(self) -> int:
        """The bred finalist where it beats the best baseline beyond noise, and the baseline otherwise."""
        if self.best_bred is None or self.difference is None or self.difference.high >= 0.0:
            return self.best_baseline
        return self.best_bred


def choose_finalists(history: Sequence[ScoredCandidate], *, at_most: int = FINALISTS) -> tuple[ScoredCandidate, ...]:
    """Every baseline that could be scored, raced out or not, and the best bred candidates by search NLL.

    Also where documents skipped: what these say of a baseline is no reason to leave the best one out of the comparison.

    A bred one must have been scored on at least half as many documents as any: the best mean of a few documents is
    mostly luck. Ties go to the earlier trial.
    """
    scored = [one for one in history if not one.failed]
    baselines = [one for one in scored if one.candidate.baseline_name is not None]
    bred = comparable([one for one in scored if one.candidate.baseline_name is None and not one.pruned])
    return (*baselines, *sorted(bred, key=lambda one: (one.nll, one.trial))[:at_most])


def next_round(
    entrants: Sequence[Entrant],
    scores: Scores,
    *,
    documents: int,
    failed: frozenset[int],
    seed: int,
    shares: Shares = None,
) -> Round | None:
    """The next round, out of `documents` held-out ones that have `shares` of text in common; None when the outcome is
    clear or the documents are used up.

    Everybody enters the first round. After each round an entrant is out when the leader beats it beyond chance
    (:func:`search_space.strategies.racing.is_worse`); from 16 documents on at most half of the bred ones go on, by NLL,
    and from 64 on at most half of the baselines. The best baseline always goes on, as what the winner is measured
    against. `failed` ones take no part.
    """
    alive = [entrant for entrant in entrants if entrant.trial not in failed]
    size = min(FIRST_ROUND, documents)
    while alive:
        if any(len(scores.get(entrant.trial, ())) < size for entrant in alive):
            return Round(documents=size, trials=tuple(entrant.trial for entrant in alive))
        if size == documents or _is_separated(alive, scores, size, seed, shares):
            return None
        alive = _survivors(alive, scores, size)
        size = min(2 * size, documents)
    return None


def outcome(
    entrants: Sequence[Entrant], scores: Scores, *, failed: frozenset[int], seed: int, shares: Shares = None
) -> Outcome | None:
    """The comparison on the documents that both sides have; None when no baseline could be scored."""
    alive = [one for one in entrants if one.trial not in failed and scores.get(one.trial)]
    most = max((len(scores[one.trial]) for one in alive), default=0)
    finals = [one for one in alive if len(scores[one.trial]) == most]
    ranked = _ranked(finals, scores, most)
    baseline = next((one for one in ranked if one.is_baseline), None)
    if baseline is None:
        return None
    bred = next((one for one in ranked if not one.is_baseline), None)
    difference = None
    if bred is not None:
        difference = paired_difference(scores[bred.trial], scores[baseline.trial], shares=shares, seed=seed)
    return Outcome(best_baseline=baseline.trial, best_bred=None if bred is None else bred.trial, difference=difference)


def most_passes(entrants: int, baselines: int, documents: int) -> int:
    """An upper bound on validation passes: nobody is rejected by the test, and there is only halving."""
    passes, size, bred = entrants * min(FIRST_ROUND, documents), min(FIRST_ROUND, documents), entrants - baselines
    while size < documents:
        bred = _halved(bred, size, HALVING_DOCUMENTS)
        baselines = _halved(baselines, size, BASELINE_HALVING_DOCUMENTS)
        larger = min(2 * size, documents)
        passes, size = passes + (bred + baselines) * (larger - size), larger
    return passes


def _survivors(alive: Sequence[Entrant], scores: Scores, size: int) -> list[Entrant]:
    ranked = _ranked(alive, scores, size)
    leader = _per_token(ranked[0], scores, size)
    best_baseline = next((one for one in ranked if one.is_baseline), None)
    kept = [
        one
        for one in ranked
        if one is best_baseline or not is_worse(_per_token(one, scores, size), leader, alpha=ALPHA)
    ]
    bred = [one for one in kept if not one.is_baseline]
    baselines = [one for one in kept if one.is_baseline]
    allowed = {
        *bred[: _halved(len(bred), size, HALVING_DOCUMENTS)],
        *baselines[: _halved(len(baselines), size, BASELINE_HALVING_DOCUMENTS)],
    }
    return [one for one in kept if one in allowed]


def _halved(count: int, size: int, documents: int) -> int:
    """How many of `count` go on after a round of `size` documents, where from `documents` on half of them do."""
    return (count + 1) // 2 if size >= documents else count


def _is_separated(alive: Sequence[Entrant], scores: Scores, size: int, seed: int, shares: Shares) -> bool:
    """One bred finalist and one baseline are left, and their interval leaves out zero; or one baseline alone."""
    if len(alive) == 1:
        return True
    ranked = _ranked(alive, scores, size)
    bred = [one for one in ranked if not one.is_baseline]
    if len(alive) != 2 or len(bred) != 1 or size < SEPARATION_DOCUMENTS:
        return False
    baseline = next(one for one in ranked if one.is_baseline)
    theirs, its = scores[bred[0].trial][:size], scores[baseline.trial][:size]
    difference = paired_difference(theirs, its, shares=shares, seed=seed)
    return difference.high < 0.0 or difference.low > 0.0


def _ranked(entrants: Sequence[Entrant], scores: Scores, size: int) -> list[Entrant]:
    """By NLL on the first `size` documents; among equals baselines first, then the earlier trial."""
    return sorted(
        entrants,
        key=lambda one: (summarise(scores[one.trial][:size]).nll, not one.is_baseline, one.trial),
    )


def _per_token(entrant: Entrant, scores: Scores, size: int) -> NDArray[np.float64]:
    return np.array([score.nats / score.tokens for score in scores[entrant.trial][:size]], dtype=np.float64)
