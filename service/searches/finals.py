"""The finalists of a search on held-out documents: round after round, and the decision."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evaluation.scores.score import DocumentScore
from search_space.candidates.candidate import ScoredCandidate
from service.errors import RunFailed
from service.runtime.job import Pool, Runtime
from service.searches.prepare import PreparedSearch
from service.searches.results import SearchResult, decide
from service.searches.score_book import Assignment, Listeners, ScoreBook
from service.searches.validation import Contender, Round, most_passes, next_round, outcome
from storage.records import JobState

FINALISTS = 8  # bred candidates that go to validation


class WriteProgress(Protocol):
    """Stores how far the job is."""

    def __call__(self, stage: str, *, passes: int, expected: int, fraction: float, note: str = "") -> None: ...


def choose_finalists(history: Sequence[ScoredCandidate]) -> tuple[ScoredCandidate, ...]:
    """Every baseline that could be scored, raced out or not, and the best bred candidates by search NLL.

    A bred one must have been scored on at least half as many documents as any: the best mean of a few documents is
    mostly luck. Ties go to the earlier trial.
    """
    scored = [one for one in history if not one.failed]
    baselines = [one for one in scored if one.candidate.baseline_name is not None]
    bred = [one for one in scored if one.candidate.baseline_name is None and not one.pruned]
    most = max((len(one.scores) for one in bred), default=0)
    seasoned = [one for one in bred if 2 * len(one.scores) >= most]
    return (*baselines, *sorted(seasoned, key=lambda one: (one.nll, one.trial))[:FINALISTS])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Field:
    """Who takes part."""

    finalists: tuple[ScoredCandidate, ...]

    @property
    def contenders(self) -> tuple[Contender, ...]:
        return tuple(
            Contender(trial=one.trial, is_baseline=one.candidate.baseline_name is not None) for one in self.finalists
        )

    def most_passes(self, documents: int) -> int:
        baselines = sum(one.is_baseline for one in self.contenders)
        return most_passes(len(self.finalists), baselines, documents)


class Finals:
    """The validation of one search; goes on with what earlier controllers have scored."""

    def __init__(
        self,
        runtime: Runtime,
        prepared: PreparedSearch,
        *,
        history: Sequence[ScoredCandidate],
        write_progress: WriteProgress,
    ) -> None:
        self._runtime = runtime
        self._prepared = prepared
        self._history = tuple(history)
        self._field = _Field(finalists=choose_finalists(history))
        self._write_progress = write_progress
        self._documents = prepared.spec.objective.validation_documents
        self._expected = max(1, self._field.most_passes(self._documents))
        self._book = ScoreBook(runtime, split="validation", documents=prepared.documents("validation"))
        self._failed: set[int] = set()

    def decide(self, pool: Pool) -> SearchResult:
        """Score round after round until the winner is clear or the documents are used up.

        Raises:
            LeaseLost, RunStopped, WorkersError: as in `run_search`.
            RunFailed: no analytic baseline could be scored.
        """
        self._runtime.enter(JobState.validating)
        while (current := self._next_round()) is not None:
            self._score(pool, current)
        found = outcome(
            self._field.contenders, self._scores(), failed=frozenset(self._failed), seed=self._prepared.spec.seed
        )
        if found is None:
            raise RunFailed("no analytic baseline could be scored, so there is nothing to compare a winner with")
        finalists = [one for one in self._field.finalists if one.trial not in self._failed]
        return decide(self._prepared, self._runtime.job.id, self._history, finalists, self._scores(), found)

    def _next_round(self) -> Round | None:
        return next_round(
            self._field.contenders,
            self._scores(),
            documents=self._documents,
            failed=frozenset(self._failed),
            seed=self._prepared.spec.seed,
        )

    def _scores(self) -> dict[int, tuple[DocumentScore, ...]]:
        return {one.trial: self._book.scores(one.trial) for one in self._field.finalists}

    def _score(self, pool: Pool, current: Round) -> None:
        self._runtime.event("validation.round", documents=current.documents, trials=list(current.trials))
        note = f"{len(current.trials)} finalists on {current.documents} held-out documents"

        def report(*_: object) -> None:
            done = self._book.document_passes
            fraction = min(1.0, done / self._expected)
            self._write_progress("validating", passes=done, expected=self._expected, fraction=fraction, note=note)

        assignments = {
            one.trial: Assignment(candidate=one.candidate, documents=tuple(range(current.documents)))
            for one in self._field.finalists
            if one.trial in current.trials
        }
        listeners = Listeners(
            on_start=lambda trial: None, on_score=report, on_complete=report, on_failure=self._on_failure
        )
        self._book.score_missing(pool, assignments, listeners)

    def _on_failure(self, trial: int, reason: str) -> None:
        self._failed.add(trial)
        self._runtime.event("trial.failed", trial=trial, reason=reason)
