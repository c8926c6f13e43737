"""One search of the service: the loop over the stored book, and what its job shows of it."""

from evaluation.documents.overlap import Overlap
from ropewalk.wire.kinds import JobState
from search_space.strategies.base import TwoKinds
from service.pictures.plots import draw_dashboard
from service.pictures.reading import PictureReader
from service.runtime.job import ProgressWriter, Runtime
from service.runtime.starting import tell_limits
from service.runtime.tracing import span
from service.searches.loop import SearchLoop, TracePoint
from service.searches.prepare import PreparedSearch
from service.searches.progress import ProgressWatcher
from service.searches.results import SearchResult, decide
from service.searches.stored_book import StoredBook
from service.searches.validation import Round
from storage.records import Progress
from storage.study.record import StudyRecord


def run_search(runtime: Runtime, prepared: PreparedSearch) -> SearchResult:
    """Breed, score and validate until the winner is known. The job is left in state `validating`.

    Raises:
        LeaseLost, RunStopped: see `LeaseKeeper.check`.
        RunFailed: the failure budget is spent, or no baseline could be scored.
        WorkersError: no worker could be kept alive.
    """
    spec = prepared.spec
    study = StudyRecord(runtime.database, runtime.job.id, runtime.keeper.lease)
    study.create_if_missing(
        model=spec.model, target_length=spec.target_length, rope=prepared.model.rope, labels=runtime.job.labels
    )
    runtime.set_condition("WorkersReady", False, "Starting", "the workers' processes start")
    with runtime.open_pool(prepared.scorer_settings(), spec.workers) as pool:
        tell_limits(runtime, pool.room())
        book = StoredBook(runtime, prepared, pool, study)
        reporter = _Reporter(runtime, book, study, prepared)
        loop = SearchLoop(
            prepared.strategy,
            book,
            seed=spec.seed,
            max_failed_trials=spec.budget.max_failed_trials,
            watcher=reporter,
        )
        with span("searching"):
            runtime.enter(JobState.searching, unless=JobState.validating)
            loop.search()
            _tell_agreement(runtime, prepared, loop)
        with span("validating"):
            runtime.enter(JobState.validating)
            found = loop.validate()
            reporter.validated(found)
            result = decide(prepared, runtime.job.id, found)
    study.mark_winner(result.winner.trial)
    reporter.draw(winner=result.winner.trial)
    return result


def _tell_agreement(runtime: Runtime, prepared: PreparedSearch, loop: SearchLoop) -> None:
    """How far skipped documents ranked the baselines as full ones do, where a search asked both."""
    strategy = prepared.strategy
    if isinstance(strategy, TwoKinds) and (agreed := strategy.agreement(loop.history())) is not None:
        trusted = strategy.trusts_skipped(loop.history())
        runtime.event("documents.agreement", rank_correlation=round(agreed, 3), trusted=trusted)


class _Reporter(ProgressWatcher):
    """Shows a search in its job's events and progress, and draws the pictures of the dashboard."""

    def __init__(self, runtime: Runtime, book: StoredBook, study: StudyRecord, prepared: PreparedSearch) -> None:
        super().__init__(prepared.strategy)
        self._runtime = runtime
        self._scores = book.scores("search")
        self._study = study
        self._pictures = PictureReader(runtime.database, runtime.job.id)
        self._progress = ProgressWriter(runtime)

    def tell(self, progress: Progress, *, flush: bool) -> None:
        """See :class:`ProgressWatcher`."""
        self._progress.write(progress, flush=flush)

    def cached_passes(self) -> int:
        """See :class:`ProgressWatcher`."""
        return self._scores.cached_passes

    def trial_failed(self, trial: int, reason: str) -> None:
        """See :class:`Watcher`."""
        self._runtime.event("trial.failed", trial=trial, reason=reason)

    def step_ended(self, point: TracePoint, *, trials: int, pruned: int, improved: bool) -> None:
        """See :class:`Watcher`."""
        best = point.leader
        if improved and best is not None:
            self._runtime.event(
                "best.improved",
                trial=best.trial,
                nll=best.nll,
                documents=len(best.scores),
                generation=point.generation,
                document_passes=point.document_passes,
                tokens=point.tokens,
            )
        self._runtime.event(
            "generation.finished",
            generation=point.generation,
            trials=trials,
            pruned=pruned,
            document_passes=point.document_passes,
            tokens=point.tokens,
            best_nll=None if best is None else best.nll,
        )
        self.draw()

    def search_ended(self, point: TracePoint) -> None:
        """See :class:`Watcher`."""
        self.draw()
        super().search_ended(point)

    def overlap_measured(self, overlap: Overlap) -> None:
        """See :class:`Watcher`."""
        self._runtime.event(
            "documents.overlap",
            documents=overlap.documents,
            share=round(overlap.share, 4),
            effective_documents=round(overlap.effective, 1),
        )

    def round_began(self, current: Round) -> None:
        """See :class:`Watcher`."""
        self._runtime.event("validation.round", documents=current.documents, trials=list(current.trials))

    def draw(self, *, winner: int | None = None) -> None:
        """Draw the dashboard's pictures as things are now."""
        draw_dashboard(self._study, self._pictures, winner=winner)
