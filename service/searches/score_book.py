"""Document scores of one search and split, by trial: what is there, what is missing, and how it gets in."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from evaluation.documents.needle import NeedleDocument, Split
from evaluation.documents.score_key import candidate_digest, document_digest, score_key
from evaluation.scores.score import DocumentScore, ScoreSummary, summarise
from search_space.candidates.candidate import GRADIENT_COST, Candidate
from service.runtime.job import Pool, Runtime
from service.runtime.log_context import bound
from service.runtime.tracing import record_span, span
from storage.records import StoredScore
from storage.scores.acceptance import Acceptance, NewScore
from storage.study.record import StudyRecord
from workers.base import ScorerInfo, ScoringOutcome, ScoringTask

CACHE = "cache"  # the worker of a score that no forward pass was run for


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """The documents, by index, that a trial is to be scored on."""

    candidate: Candidate
    documents: tuple[int, ...]
    gradients: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Listeners:
    """What the caller wants to hear while trials are scored."""

    on_start: Callable[[int], object]
    """(trial), before its first missing document goes to a worker."""
    on_score: Callable[[int, int, DocumentScore], None]
    """(trial, document index, score), after the score is stored."""
    on_complete: Callable[[int, ScoreSummary], None]
    """(trial, summary of all its scores), once every assigned document of the trial is scored."""
    on_failure: Callable[[int, str], None]
    """(trial, reason), when the candidate cannot be scored; its other documents are dropped."""


class ScoreBook:
    """The accepted scores; every new one is stored, fenced by the lease, before anything else learns of it.

    What an earlier search has paid for is taken from the score cache, and counts as a document pass all the same: a
    budget must not let a search breed other candidates because of what others did before it. With a `study`, scores are
    shown there as they come in.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        split: Split,
        documents: Sequence[NeedleDocument],
        study: StudyRecord | None = None,
    ) -> None:
        self._runtime = runtime
        self._acceptance = Acceptance(runtime.database, runtime.keeper.lease, study=study)
        self._cache = runtime.score_cache
        self._keeper = runtime.keeper
        self._split = split
        self._documents = tuple(documents)
        self._digests = [document_digest(document) for document in documents]
        self._index = {document.id: index for index, document in enumerate(documents)}
        self._scores: dict[int, dict[int, DocumentScore]] = {}
        self._passes = 0
        self._cached = 0
        for stored in runtime.scores.all(self._keeper.lease.job_id, split):
            self._enter(stored)

    @property
    def document_passes(self) -> int:
        """What the accepted document scores cost, in forward passes: one with derivatives counts as three."""
        return self._passes

    @property
    def cached_passes(self) -> int:
        """Those of them that no forward pass was run for."""
        return self._cached

    def by_index(self, trial: int) -> Mapping[int, DocumentScore]:
        """The trial's scores by document index."""
        return self._scores.get(trial, {})

    def scores(self, trial: int) -> tuple[DocumentScore, ...]:
        """The trial's scores in the order of the documents."""
        known = self.by_index(trial)
        return tuple(known[index] for index in sorted(known))

    def summary(self, trial: int) -> ScoreSummary:
        """Sum over count of the trial's scores."""
        return summarise(self.scores(trial))

    def score_missing(self, pool: Pool, assignments: Mapping[int, Assignment], listeners: Listeners) -> None:
        """Score what is missing of `assignments`, in any order; returns when each is complete or has failed.

        Raises:
            LeaseLost, RunStopped: nothing more may be written, or the user asked to stop.
        """
        for trial, assignment in assignments.items():
            if not self._missing(trial, assignment):
                listeners.on_complete(trial, self.summary(trial))
        missing = {trial: one for trial, one in assignments.items() if self._missing(trial, one)}
        if missing:
            scorer = pool.scorer(check=self._keeper.check)
            self._runtime.see("WorkersReady", True, "Ready", f"{scorer.backend} on {scorer.device}")
            self._accept_cached(missing, scorer, listeners)
            self._run(pool, missing, scorer, listeners)
        self._keeper.check()

    def _missing(self, trial: int, assignment: Assignment) -> tuple[int, ...]:
        known = self.by_index(trial)
        return tuple(index for index in assignment.documents if index not in known)

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
                scores = [score.about(self._documents[index].id) for index, score in found.items()]
                self._accept(*(self._new(self._from_cache(trial, score, scorer)) for score in scores))
                self._tell(trial, assignments[trial], scores, listeners)

    def _keys(self, trial: int, assignment: Assignment, scorer: ScorerInfo) -> dict[int, bytes]:
        """Cache keys of the trial's missing documents, by index."""
        candidate = candidate_digest(assignment.candidate.factors, assignment.candidate.attention_factor)
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
            candidate=candidate_digest(candidate.factors, candidate.attention_factor),
        )

    # -- from workers ------------------------------------------------------------------------------------------------

    def _run(self, pool: Pool, assignments: Mapping[int, Assignment], scorer: ScorerInfo, listeners: Listeners) -> None:
        failed: set[int] = set()
        left_out: set[str] = set()
        # An exception from here leaves the generator, which drops what is in flight; the pool is closed by its owner.
        for outcome in pool.run(self._tasks(assignments, listeners), check=self._keeper.check):
            self._keeper.check()
            for node in pool.left_out.keys() - left_out:
                left_out.add(node)
                self._runtime.event("node.left_out", node=node, reason=pool.left_out[node])
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
                    factors=assignment.candidate.factors,
                    attention_factor=assignment.candidate.attention_factor,
                    document=self._documents[index],
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
            self._enter(new.stored)

    def _enter(self, stored: StoredScore) -> None:
        self._passes += passes_of(stored.score)
        self._scores.setdefault(stored.trial, {})[self._index[stored.score.document_id]] = stored.score
        self._cached += stored.worker == CACHE

    def _tell(self, trial: int, assignment: Assignment, scores: Sequence[DocumentScore], listeners: Listeners) -> None:
        for score in scores:
            listeners.on_score(trial, self._index[score.document_id], score)
        if not self._missing(trial, assignment):
            listeners.on_complete(trial, self.summary(trial))


def passes_of(score: DocumentScore) -> int:
    """What the score cost, in forward passes."""
    return 1 if score.gradient is None else GRADIENT_COST


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
