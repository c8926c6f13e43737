"""The book of a search that lies in the database: its study, its document scores, and how they get in from a pool.

Whoever holds the lease next opens the same book and goes on where it ends.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

from evaluation.documents.needle import NeedleDocument, Split
from evaluation.documents.score_key import candidate_digest, document_digest, score_key
from evaluation.scores.score import DocumentScore
from search_space.candidates.candidate import Candidate
from search_space.candidates.step import Step
from service.runtime.job import Pool, Runtime
from service.runtime.log_context import bound
from service.runtime.starting import StartWatch, too_many
from service.runtime.tracing import record_span, span
from service.searches.books import Assignment, BookScores, Listeners
from service.searches.prepare import PreparedSearch
from storage.records import StoredScore, TrialState
from storage.scores.acceptance import Acceptance, NewScore
from storage.study.record import StudyRecord
from workers.base import ScorerInfo, ScoringOutcome, ScoringTask

logger = logging.getLogger("ropewalk.controller")

CACHE = "cache"  # the worker of a score that no forward pass was run for


class StoredBook:
    """Implements :class:`service.searches.books.Book` with the study of a job and its scores, fenced by the lease."""

    def __init__(self, runtime: Runtime, prepared: PreparedSearch, pool: Pool, study: StudyRecord) -> None:
        self._runtime = runtime
        self._prepared = prepared
        self._pool = pool
        self._study = study
        self._scores: dict[Split, StoredScores] = {}

    def recorded_steps(self) -> tuple[Step, ...]:
        """See :class:`Book`."""
        return self._study.recorded_steps()

    def failed_trials(self) -> frozenset[int]:
        """See :class:`Book`."""
        return frozenset(trial.number for trial in self._study.trials() if trial.state is TrialState.failed)

    def record_step(self, generation: int, step: Step) -> tuple[int, ...]:
        """See :class:`Book`."""
        return self._study.record_step(generation, step)

    def scores(self, split: Split) -> "StoredScores":
        """See :class:`Book`; those that are stored by now are read once. Only search scores are shown in the study."""
        if split not in self._scores:
            study = self._study if split == "search" else None
            documents = self._prepared.documents(split)
            self._scores[split] = StoredScores(self._runtime, self._pool, split=split, documents=documents, study=study)
        return self._scores[split]

    def start(self, trial: int) -> None:
        """See :class:`Book`."""
        self._study.start(trial)

    def finish(self, trial: int, nll: float) -> None:
        """See :class:`Book`."""
        self._runtime.reach("before tell")
        self._study.finish(trial, nll)
        self._runtime.reach("after tell")

    def prune(self, trial: int) -> None:
        """See :class:`Book`."""
        self._study.prune(trial)

    def fail(self, trial: int, reason: str) -> bool:
        """See :class:`Book`."""
        logger.warning("a candidate could not be scored: %s", reason)
        return self._study.fail(trial, reason)


class StoredScores(BookScores):
    """The accepted scores; every new one is stored, fenced by the lease, before anything else learns of it.

    What an earlier search has paid for is taken from the score cache, and counts as a document pass all the same: a
    budget must not let a search breed other candidates because of what others did before it. With a `study`, scores are
    shown there as they come in.
    """

    def __init__(
        self,
        runtime: Runtime,
        pool: Pool,
        *,
        split: Split,
        documents: Sequence[NeedleDocument],
        study: StudyRecord | None = None,
    ) -> None:
        super().__init__(documents)
        self._runtime = runtime
        self._pool = pool
        self._acceptance = Acceptance(runtime.database, runtime.keeper.lease, study=study)
        self._cache = runtime.score_cache
        self._keeper = runtime.keeper
        self._split = split
        self._digests = [document_digest(document) for document in documents]
        self._index = {document.id: index for index, document in enumerate(documents)}
        self._cached = 0
        for stored in runtime.scores.all(self._keeper.lease.job_id, split):
            self._enter_stored(stored)

    @property
    def cached_passes(self) -> int:
        """Those of the document passes that no forward pass was run for."""
        return self._cached

    def score_missing(self, assignments: Mapping[int, Assignment], listeners: Listeners) -> None:
        """See :class:`BookScores`; in any order.

        Raises:
            LeaseLost, RunStopped: nothing more may be written, or the user asked to stop.
        """
        for trial, assignment in assignments.items():
            if not self._missing(trial, assignment):
                listeners.on_complete(trial, self.summary(trial))
        missing = {trial: one for trial, one in assignments.items() if self._missing(trial, one)}
        if missing:
            scorer = self._pool.scorer(check=StartWatch(self._runtime, self._pool.room).check)
            more = too_many(self._pool.room())
            ready = f"{scorer.backend} on {scorer.device}" + (f"; {more}" if more else "")
            self._runtime.set_condition("WorkersReady", True, "Ready", ready)
            self._accept_cached(missing, scorer, listeners)
            self._run(missing, scorer, listeners)
        self._keeper.check()

    # -- from the cache ----------------------------------------------------------------------------------------------

    def _accept_cached(self, assignments: Mapping[int, Assignment], scorer: ScorerInfo, listeners: Listeners) -> None:
        """Take what was paid for before: one look-up for all, one transaction for each trial."""
        # The cache holds scores of plain passes only.
        keys = {trial: self._keys(trial, one, scorer) for trial, one in assignments.items() if not one.gradients}
        cached = self._cache.get([key for of_trial in keys.values() for key in of_trial.values()])
        for trial, of_trial in keys.items():
            found = {index: cached[key] for index, key in of_trial.items() if key in cached}
            if found:
                self._keeper.check()
                listeners.on_start(trial)
                scores = [score.about(self.documents[index].id) for index, score in found.items()]
                self._accept(*(self._new(self._from_cache(trial, score, scorer)) for score in scores))
                self._tell(trial, assignments[trial], scores, listeners)

    def _keys(self, trial: int, assignment: Assignment, scorer: ScorerInfo) -> dict[int, bytes]:
        """Cache keys of the trial's missing documents, by index."""
        candidate = candidate_digest(assignment.candidate.scaling)
        return {
            index: score_key(
                model_sha256=scorer.model_sha256,
                scorer=scorer.fingerprint(),
                document=self._digests[index],
                candidate=candidate,
            )
            for index in self._missing(trial, assignment)
        }

    def _from_cache(self, trial: int, score: DocumentScore, scorer: ScorerInfo) -> StoredScore:
        return StoredScore(split=self._split, trial=trial, score=score, worker=CACHE, scorer=scorer.fingerprint())

    def _cache_key(
        self, candidate: Candidate, scorer: ScorerInfo, outcome: ScoringOutcome, score: DocumentScore
    ) -> bytes | None:
        """What the cache keeps the score by: under the fingerprint of the worker that gave it. None: not at all, since
        nats of a gradient pass are close to those of a plain one, not equal."""
        if score.gradient is not None:
            return None
        return score_key(
            model_sha256=scorer.model_sha256,
            scorer=outcome.scorer,
            document=self._digests[self._index[score.document_id]],
            candidate=candidate_digest(candidate.scaling),
        )

    # -- from workers ------------------------------------------------------------------------------------------------

    def _run(self, assignments: Mapping[int, Assignment], scorer: ScorerInfo, listeners: Listeners) -> None:
        failed: set[int] = set()
        left_out: set[str] = set()
        # An exception from here leaves the generator, which drops what is in flight; the pool is closed by its owner.
        for outcome in self._pool.run(self._tasks(assignments, listeners), check=self._keeper.check):
            self._keeper.check()
            for node in self._pool.left_out.keys() - left_out:
                left_out.add(node)
                self._runtime.event("node.left_out", node=node, reason=self._pool.left_out[node])
            trial = int(outcome.task_key.partition(":")[0])
            if trial in failed:
                continue
            with bound(trial=trial):
                if not self._take(trial, assignments[trial], outcome, scorer, listeners):
                    failed.add(trial)

    def _take(
        self, trial: int, assignment: Assignment, outcome: ScoringOutcome, scorer: ScorerInfo, listeners: Listeners
    ) -> bool:
        """Accept what a worker answered, or give the trial up; returns which."""
        self._runtime.reach("after score")
        if outcome.score is None:
            listeners.on_failure(trial, outcome.error or "the scorer gave no score")
            return False
        document = outcome.score.document_id
        record_span("document score", seconds=outcome.seconds, document=document, worker=outcome.worker)
        with span("accept", document=document):
            key = self._cache_key(assignment.candidate, scorer, outcome, outcome.score)
            self._accept(self._new(_stored(self._split, trial, outcome, outcome.score), key))
        self._tell(trial, assignment, [outcome.score], listeners)
        return True

    def _tasks(self, assignments: Mapping[int, Assignment], listeners: Listeners) -> Iterable[ScoringTask]:
        for trial, assignment in assignments.items():
            missing = self._missing(trial, assignment)
            if missing:
                listeners.on_start(trial)
            for index in missing:
                self._runtime.reach("before score")
                yield ScoringTask(
                    key=f"{trial}:{index}",
                    scaling=assignment.candidate.scaling,
                    document=self.documents[index],
                    gradient=assignment.gradients,
                )

    # -- into the book -----------------------------------------------------------------------------------------------

    def _new(self, stored: StoredScore, cache_key: bytes | None = None) -> NewScore:
        return NewScore(stored=stored, index=self._index[stored.score.document_id], cache_key=cache_key)

    def _accept(self, *scores: NewScore) -> None:
        self._runtime.reach("before report")
        self._keeper.accepted(self._acceptance.accept(scores))
        self._runtime.reach("after report")
        for new in scores:
            self._enter_stored(new.stored)

    def _enter_stored(self, stored: StoredScore) -> None:
        self._enter(stored.trial, self._index[stored.score.document_id], stored.score)
        self._cached += stored.worker == CACHE

    def _tell(self, trial: int, assignment: Assignment, scores: Sequence[DocumentScore], listeners: Listeners) -> None:
        for score in scores:
            listeners.on_score(trial, self._index[score.document_id], score)
        if not self._missing(trial, assignment):
            listeners.on_complete(trial, self.summary(trial))


def _stored(split: Split, trial: int, outcome: ScoringOutcome, score: DocumentScore) -> StoredScore:
    return StoredScore(
        split=split,
        trial=trial,
        score=score,
        worker=outcome.worker,
        attempts=outcome.attempts,
        seconds=outcome.seconds,
        scorer=outcome.scorer,
    )
