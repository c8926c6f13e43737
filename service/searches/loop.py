"""The search loop: step after step until the strategy has no more, then held-out rounds until the winner is known.

Nothing that decides is kept here only. Steps are in the book before they are scored, and a strategy proposes the next
one from the scores that recorded steps asked for: whoever takes a book over goes on with the same candidates, on the
same documents, and ends with the same winner.

Imports neither database, pydantic, Optuna nor Ray, as :mod:`service.searches.books`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

from evaluation.documents.overlap import Overlap, measure_overlap
from evaluation.scores.score import DocumentScore, ScoreSummary
from search_space.candidates.candidate import Candidate, DocumentNats, ScoredCandidate
from search_space.candidates.cost import Spent
from search_space.candidates.ledger import Ledger, leader
from search_space.candidates.step import Step
from search_space.strategies.base import Strategy
from service.errors import RunFailed
from service.runtime.tracing import span
from service.searches.books import Assignment, Book, Listeners
from service.searches.validation import (
    FINALISTS,
    Entrant,
    Outcome,
    Round,
    choose_finalists,
    most_passes,
    next_round,
    outcome,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TracePoint:
    """How a search stands.

    `document_passes` are those over search documents so far, in forward passes: one with gradients counts as
    `GRADIENT_COST`; `tokens` are what they read. `leader` is what the strategy would have returned after the last step
    that is scored; None while nothing could be scored.
    """

    generation: int
    trials: int
    document_passes: int
    tokens: int
    leader: ScoredCandidate | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedSearch:
    """Every trial, what was paid for them in forward passes and their tokens, and what became of the finalists."""

    history: tuple[ScoredCandidate, ...]
    trace: tuple[TracePoint, ...]
    """After each step."""
    search_passes: int
    search_tokens: int
    validation_passes: int
    validation_tokens: int
    finalists: tuple[ScoredCandidate, ...]
    """Those that could be scored on held-out documents too."""
    validation: Mapping[int, tuple[DocumentScore, ...]]
    """trial -> a finalist's scores on the held-out documents that it got to."""
    outcome: Outcome
    overlap: Overlap
    """Of the held-out documents."""

    def candidate(self, trial: int) -> Candidate:
        """What the trial scored."""
        return next(one.candidate for one in self.history if one.trial == trial)

    def leader_at(self, document_passes: int) -> TracePoint | None:
        """The last step that was paid for by then, as long as the search went on; None before the first and after."""
        if document_passes > self.search_passes:
            return None
        paid = [point for point in self.trace if point.document_passes <= document_passes]
        return paid[-1] if paid else None


class Watcher:
    """Hears how a search goes; this one does nothing about it. What a method raises ends the search."""

    def document_scored(self, point: TracePoint) -> None:
        """A score on a search document is in the book."""

    def trial_failed(self, trial: int, reason: str) -> None:
        """A candidate could not be scored."""

    def step_ended(self, point: TracePoint, *, trials: int, pruned: int, improved: bool) -> None:
        """A step is scored: so many `trials`, after so many were `pruned`; `improved`: the leader is another one."""

    def search_ended(self, point: TracePoint) -> None:
        """The strategy has no more, and every trial is finished."""

    def overlap_measured(self, overlap: Overlap) -> None:
        """How much text the held-out documents share."""

    def round_began(self, current: Round) -> None:
        """Finalists are scored on more held-out documents."""

    def round_scored(self, current: Round, *, done: Spent, most: Spent) -> None:
        """So many held-out passes are done, out of at most so many."""


class SearchLoop:
    """One search over one book: `search`, then `validate`.

    `max_failed_trials` None: any number of candidates may fail. `finalists`: searched candidates that go to validation.
    """

    def __init__(
        self,
        strategy: Strategy,
        book: Book,
        *,
        seed: int,
        max_failed_trials: int | None = None,
        finalists: int = FINALISTS,
        watcher: Watcher | None = None,
    ) -> None:
        self._strategy = strategy
        self._book = book
        self._seed = seed
        self._max_failed_trials = max_failed_trials
        self._finalists = finalists
        self._watcher = watcher or Watcher()
        self._scores = book.scores("search")
        self._failed = set(book.failed_trials())
        self._ledger = Ledger()
        self._trace: list[TracePoint] = []
        self._generation = 0
        self._leader: ScoredCandidate | None = None

    # -- searching ---------------------------------------------------------------------------------------------------

    def search(self, *, go_on: Callable[[], bool] = lambda: True) -> None:
        """Score step after step until the strategy has no more, or `go_on`, asked between two steps, says no.

        Either way the search is over: open trials are finished, and the book takes no more steps.

        Raises:
            RunFailed: more candidates could not be scored than `max_failed_trials`.
            What scoring raises; see `BookScores.score_missing`.
        """
        self._check_failures()
        recorded = self._book.recorded_steps()
        for generation in count():
            if generation and not go_on():
                break
            self._generation = generation
            with span("generation", generation=generation):
                is_recorded = generation < len(recorded)
                step = recorded[generation] if is_recorded else self._strategy.propose(generation, self.history())
                assigned = self._begin(step)
                if step.is_last:  # entered all the same: it may send trials home
                    break
                self._score(step, assigned)
        nll = {one.trial: one.nll for one in self.history()}
        for trial in self._ledger.open_trials():
            if trial not in self._failed:
                self._book.finish(trial, nll[trial])
        self._watcher.search_ended(self._point())

    def history(self) -> tuple[ScoredCandidate, ...]:
        """Every trial so far with the scores that steps asked for."""
        return self._ledger.history(self._nats, self._failed)

    def _nats(self, trial: int) -> Mapping[int, DocumentNats]:
        return {
            index: DocumentNats(
                index=index,
                nats=score.nats,
                tokens=score.tokens,
                gradient=score.gradient,
                skipped=bool(self._scores.documents[index].jumps),
            )
            for index, score in self._scores.by_index(trial).items()
        }

    def _point(self) -> TracePoint:
        return TracePoint(
            generation=self._generation,
            trials=len(self._ledger),
            document_passes=self._scores.spent.passes,
            tokens=self._scores.spent.tokens,
            leader=self._leader,
        )

    def _begin(self, step: Step) -> dict[int, tuple[int, ...]]:
        """Enter the step; returns the documents that it asks for, by trial."""
        numbers = self._book.record_step(self._generation, step)
        assigned = self._ledger.begin(self._generation, step, numbers)
        for trial in step.prune:
            self._book.prune(trial)
        return assigned

    def _score(self, step: Step, assigned: Mapping[int, tuple[int, ...]]) -> None:
        assignments = {
            trial: Assignment(candidate=self._ledger.candidate(trial), documents=documents, gradients=step.gradients)
            for trial, documents in assigned.items()
            if trial not in self._failed
        }
        finishing = set() if step.keep_open else set(assigned) - set(self._ledger.open_trials())

        def on_complete(trial: int, summary: ScoreSummary) -> None:
            if trial in finishing:
                self._book.finish(trial, summary.nll)

        listeners = Listeners(
            on_start=self._book.start,
            on_score=lambda trial, index, score: self._watcher.document_scored(self._point()),
            on_complete=on_complete,
            on_failure=self._on_failure,
        )
        self._scores.score_missing(assignments, listeners)
        before, self._leader = self._leader, leader(self.history())
        improved = self._leader is not None and (before is None or self._leader.trial != before.trial)
        self._trace.append(self._point())
        self._watcher.step_ended(self._trace[-1], trials=len(assigned), pruned=len(step.prune), improved=improved)

    def _on_failure(self, trial: int, reason: str) -> None:
        self._failed.add(trial)
        if self._book.fail(trial, reason):
            self._watcher.trial_failed(trial, reason)
        self._check_failures(reason)

    def _check_failures(self, last_reason: str = "") -> None:
        allowed = self._max_failed_trials
        if allowed is not None and len(self._failed) > allowed:
            raise RunFailed(
                f"at most max_failed_trials={allowed} candidates may fail, but {len(self._failed)} did; "
                f"the last reason: {last_reason or 'in the events'}",
                code="FAILURE_BUDGET_SPENT",
            )

    # -- validating --------------------------------------------------------------------------------------------------

    def validate(self) -> FinishedSearch:
        """Score the finalists round after round until the winner is clear or the held-out documents are used up.

        Raises:
            RunFailed: no analytic baseline could be scored.
            What scoring raises; see `BookScores.score_missing`.
        """
        history = self.history()
        finalists = choose_finalists(history, at_most=self._finalists)
        entrants = tuple(Entrant.of(one) for one in finalists)
        scores, failed = self._book.scores("validation"), set[int]()
        documents = len(scores.documents)
        overlap = measure_overlap([document.token_ids for document in scores.documents])
        self._watcher.overlap_measured(overlap)

        def found() -> dict[int, tuple[DocumentScore, ...]]:
            return {one.trial: scores.in_order(one.trial) for one in finalists}

        def following() -> Round | None:
            return next_round(
                entrants,
                found(),
                documents=documents,
                failed=frozenset(failed),
                seed=self._seed,
                shares=overlap.shares,
            )

        passes = max(1, most_passes(len(entrants), sum(one.is_baseline for one in entrants), documents))
        most = Spent(passes=passes, tokens=passes * max(len(document.token_ids) for document in scores.documents))
        while (current := following()) is not None:
            self._score_round(current, finalists, failed, most)
        decided = outcome(entrants, found(), failed=frozenset(failed), seed=self._seed, shares=overlap.shares)
        if decided is None:
            raise RunFailed("no analytic baseline could be scored, so there is nothing to compare a winner with")
        return FinishedSearch(
            history=history,
            trace=tuple(self._trace),
            search_passes=self._scores.spent.passes,
            search_tokens=self._scores.spent.tokens,
            validation_passes=scores.spent.passes,
            validation_tokens=scores.spent.tokens,
            finalists=tuple(one for one in finalists if one.trial not in failed),
            validation=found(),
            outcome=decided,
            overlap=overlap,
        )

    def _score_round(
        self, current: Round, finalists: tuple[ScoredCandidate, ...], failed: set[int], most: Spent
    ) -> None:
        """Adds to `failed` who cannot be scored."""
        scores = self._book.scores("validation")
        self._watcher.round_began(current)

        def report(*_: object) -> None:
            self._watcher.round_scored(current, done=scores.spent, most=most)

        def on_failure(trial: int, reason: str) -> None:
            failed.add(trial)
            self._watcher.trial_failed(trial, reason)

        assignments = {
            one.trial: Assignment(candidate=one.candidate, documents=tuple(range(current.documents)))
            for one in finalists
            if one.trial in current.trials
        }
        scores.score_missing(assignments, Listeners(on_score=report, on_complete=report, on_failure=on_failure))
