"""Document scores of one search and split, by trial: what is there, what is missing, and how it gets in."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from evaluation.needle import NeedleDocument, Split
from evaluation.score import DocumentScore, ScoreSummary, summarise
from search_space.candidate import Candidate
from service.lease import LeaseKeeper
from service.runtime import Pool
from storage.records import StoredScore
from storage.scores import ScoreStore
from workers.base import ScoringOutcome, ScoringTask


@dataclass(frozen=True, kw_only=True, slots=True)
class Listeners:
    """What the caller wants to hear while trials are scored."""

    on_start: Callable[[int], object]
    """(trial), before its first missing document goes to a worker."""
    on_score: Callable[[int, int, DocumentScore], None]
    """(trial, document index, score), after the score is stored."""
    on_complete: Callable[[int, ScoreSummary], None]
    """(trial, summary), once every document of the trial is scored."""
    on_failure: Callable[[int, str], None]
    """(trial, reason), when the candidate cannot be scored; its other documents are dropped."""


class ScoreBook:
    """The accepted scores; every new one is stored, fenced by the lease, before anything else learns of it."""

    def __init__(
        self, store: ScoreStore, keeper: LeaseKeeper, *, split: Split, documents: Sequence[NeedleDocument]
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._split = split
        self._documents = {document.id: (index, document) for index, document in enumerate(documents)}
        self._scores: dict[int, dict[str, DocumentScore]] = {}
        for stored in store.all(keeper.lease.job_id, split):
            self._scores.setdefault(stored.trial, {})[stored.score.document_id] = stored.score

    @property
    def document_passes(self) -> int:
        """Forward passes that are paid for: accepted document scores."""
        return sum(len(scores) for scores in self._scores.values())

    def scores(self, trial: int) -> tuple[DocumentScore, ...]:
        """The trial's scores in the order of the documents."""
        known = self._scores.get(trial, {})
        return tuple(known[document_id] for document_id in self._documents if document_id in known)

    def is_complete(self, trial: int) -> bool:
        """Whether every document of the trial is scored."""
        return len(self._scores.get(trial, {})) == len(self._documents)

    def summary(self, trial: int) -> ScoreSummary:
        """Sum over count of the trial's scores."""
        return summarise(self.scores(trial))

    def score_missing(self, pool: Pool, trials: Mapping[int, Candidate], listeners: Listeners) -> None:
        """Score what is missing of `trials`, in any order; returns when each is complete or has failed.

        Raises:
            LeaseLost, RunStopped: nothing more may be written, or the user asked to stop.
        """
        for trial in trials:
            if self.is_complete(trial):
                listeners.on_complete(trial, self.summary(trial))
        failed: set[int] = set()
        # An exception from here leaves the generator, which drops what is in flight; the pool is closed by its owner.
        for outcome in pool.run(self._tasks(trials, listeners), check=self._keeper.check):
            self._keeper.check()
            trial, index = _parse_key(outcome.task_key)
            if trial in failed:
                continue
            if outcome.score is None:
                failed.add(trial)
                listeners.on_failure(trial, outcome.error or "the scorer gave no score")
            else:
                self._accept(trial, outcome, outcome.score)
                listeners.on_score(trial, index, outcome.score)
                if self.is_complete(trial):
                    listeners.on_complete(trial, self.summary(trial))
        self._keeper.check()

    def _tasks(self, trials: Mapping[int, Candidate], listeners: Listeners) -> Iterable[ScoringTask]:
        for trial, candidate in trials.items():
            known = self._scores.get(trial, {})
            if len(known) < len(self._documents):
                listeners.on_start(trial)
            for index, document in self._documents.values():
                if document.id not in known:
                    yield ScoringTask(
                        key=f"{trial}:{index}",
                        factors=candidate.factors,
                        attention_factor=candidate.attention_factor,
                        document=document,
                    )

    def _accept(self, trial: int, outcome: ScoringOutcome, score: DocumentScore) -> None:
        stored = StoredScore(
            split=self._split,
            trial=trial,
            score=score,
            worker=outcome.worker,
            attempts=outcome.attempts,
            seconds=outcome.seconds,
        )
        self._store.put(self._keeper.lease, stored)
        self._scores.setdefault(trial, {})[score.document_id] = score


def _parse_key(key: str) -> tuple[int, int]:
    trial, index = key.split(":")
    return int(trial), int(index)
