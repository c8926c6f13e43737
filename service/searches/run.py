"""One search from its first candidate to its winner; resumes from what the database holds.

Nothing that decides is kept in memory only. Steps are recorded before they are scored, and a strategy proposes the next
one from the scores that recorded steps asked for: a controller that takes over goes on with the same candidates, on the
same documents, and ends with the same winner.
"""

import itertools
import logging
from collections.abc import Mapping

from evaluation.scores.score import ScoreSummary
from search_space.candidates.candidate import DocumentNats, ScoredCandidate
from search_space.candidates.ledger import Ledger, leader
from search_space.candidates.step import Step
from service.errors import RunFailed
from service.pictures.plots import draw_dashboard
from service.pictures.reading import PictureReader
from service.runtime.job import Pool, ProgressWriter, Runtime
from service.runtime.tracing import span
from service.searches.finals import Finals
from service.searches.prepare import PreparedSearch
from service.searches.results import SearchResult
from service.searches.score_book import Assignment, Listeners, ScoreBook
from storage.records import JobState, Progress, TrialState
from storage.study.record import StudyRecord

logger = logging.getLogger("ropewalk.controller")


def run_search(runtime: Runtime, prepared: PreparedSearch) -> SearchResult:
    """Breed, score and validate until the winner is known. The job is left in state `validating`.

    Raises:
        LeaseLost, RunStopped: see `LeaseKeeper.check`.
        RunFailed: the failure budget is spent, or no baseline could be scored.
        WorkersError: no worker could be kept alive.
    """
    run = _SearchRun(runtime, prepared)
    runtime.see("WorkersReady", False, "Starting", f"{prepared.spec.workers} workers load the model")
    with runtime.open_pool(prepared.scorer_settings(), prepared.spec.workers) as pool:
        with span("searching"):
            run.search(pool)
        finals = Finals(runtime, prepared, history=run.history(), write_progress=run.write_progress)
        with span("validating"):
            result = finals.decide(pool)
    run.draw(winner=result.winner.trial)
    return result


class _SearchRun:
    def __init__(self, runtime: Runtime, prepared: PreparedSearch) -> None:
        self._runtime = runtime
        self._prepared = prepared
        self._study = StudyRecord(runtime.database, runtime.job.id, runtime.keeper.lease)
        self._study.create_if_missing(
            model=prepared.spec.model, target_length=prepared.spec.target_length, rope=prepared.model.rope
        )
        self._pictures = PictureReader(runtime.database, runtime.job.id)
        self._book = ScoreBook(runtime, split="search", documents=prepared.documents("search"), study=self._study)
        self._recorded = self._study.recorded_steps()
        self._failed = {trial.number for trial in self._study.trials() if trial.state is TrialState.failed}
        self._ledger = Ledger()
        self._progress = ProgressWriter(runtime)
        self._expected_passes = max(1, prepared.strategy.max_document_passes)
        self._generation = 0
        self._best: ScoredCandidate | None = None

    # -- searching ---------------------------------------------------------------------------------------------------

    def search(self, pool: Pool) -> None:
        """Score step after step until the strategy has no more.

        Raises:
            RunFailed: more candidates could not be scored than the budget allows.
        """
        self._check_failures()
        self._runtime.enter(JobState.searching, unless=JobState.validating)
        for generation in itertools.count():
            self._generation = generation
            with span("generation", generation=generation):
                step, assigned = self._begin_step()
                if step.is_last:
                    break
                self._score(pool, step, assigned)
                self.draw()
        for trial in self._ledger.open_trials():
            if trial not in self._failed:
                self._finish(trial, self._book.summary(trial))
        self.draw()
        self._report(flush=True)

    def draw(self, *, winner: int | None = None) -> None:
        """Draw the dashboard's pictures as things are now."""
        draw_dashboard(self._study, self._pictures, winner=winner)

    def _begin_step(self) -> tuple[Step, dict[int, tuple[int, ...]]]:
        """The recorded step of this generation, or a new one, and the documents that it asks for, by trial."""
        generation = self._generation
        if generation < len(self._recorded):
            step = self._recorded[generation]
        else:
            step = self._prepared.strategy.propose(generation, self.history())
        numbers = self._study.record_step(generation, step)
        assigned = self._ledger.begin(generation, step, numbers)
        for trial in step.prune:
            self._study.prune(trial)
        return step, assigned

    def history(self) -> tuple[ScoredCandidate, ...]:
        """Every trial so far with the scores that steps asked for."""
        return self._ledger.history(self._nats, self._failed)

    def _nats(self, trial: int) -> Mapping[int, DocumentNats]:
        return {
            index: DocumentNats(index=index, nats=score.nats, tokens=score.tokens, gradient=score.gradient)
            for index, score in self._book.by_index(trial).items()
        }

    def _score(self, pool: Pool, step: Step, assigned: Mapping[int, tuple[int, ...]]) -> None:
        assignments = {
            trial: Assignment(candidate=self._ledger.candidate(trial), documents=documents, gradients=step.gradients)
            for trial, documents in assigned.items()
            if trial not in self._failed
        }
        finishing = set() if step.keep_open else set(assigned) - set(self._ledger.open_trials())

        def on_complete(trial: int, summary: ScoreSummary) -> None:
            if trial in finishing:
                self._finish(trial, summary)

        listeners = Listeners(
            on_start=self._study.start, on_score=self._report, on_complete=on_complete, on_failure=self._on_failure
        )
        self._book.score_missing(pool, assignments, listeners)
        self._note_best()
        self._runtime.event(
            "generation.finished",
            generation=self._generation,
            trials=len(assigned),
            pruned=len(step.prune),
            document_passes=self._book.document_passes,
            best_nll=None if self._best is None else self._best.nll,
        )

    def _note_best(self) -> None:
        found = leader(self.history())
        if found is None or (self._best is not None and found.trial == self._best.trial):
            self._best = found
            return
        self._best = found
        self._runtime.event(
            "best.improved",
            trial=found.trial,
            nll=found.nll,
            documents=len(found.scores),
            generation=self._generation,
            document_passes=self._book.document_passes,
        )

    def _finish(self, trial: int, summary: ScoreSummary) -> None:
        self._runtime.reach("before tell")
        self._study.finish(trial, summary.nll)
        self._runtime.reach("after tell")

    def _on_failure(self, trial: int, reason: str) -> None:
        self._failed.add(trial)
        logger.warning("a candidate could not be scored: %s", reason)
        if self._study.fail(trial, reason):
            self._runtime.event("trial.failed", trial=trial, reason=reason)
        self._check_failures(reason)

    def _check_failures(self, last_reason: str = "") -> None:
        allowed = self._prepared.spec.budget.max_failed_trials
        if len(self._failed) > allowed:
            raise RunFailed(
                f"at most max_failed_trials={allowed} candidates may fail, but {len(self._failed)} did; "
                f"the last reason: {last_reason or 'in the events'}",
                code="FAILURE_BUDGET_SPENT",
            )

    def _report(self, *_: object, flush: bool = False) -> None:
        done, total = self._book.document_passes, self._expected_passes
        self.write_progress("searching", passes=0, expected=0, fraction=min(1.0, done / total), flush=flush)

    def write_progress(
        self, stage: str, *, passes: int, expected: int, fraction: float, note: str = "", flush: bool = False
    ) -> None:
        """Store how far the search is; `passes` of `expected` come on top of those of the search documents."""
        if not (flush or self._progress.is_due):
            return
        found = passes > 0 or expected > 0
        self._progress.write(
            Progress(
                stage=stage,
                generation=self._generation,
                trials=len(self._ledger),
                document_passes=self._book.document_passes + passes,
                total_document_passes=self._book.document_passes + expected if found else self._expected_passes,
                cached_passes=self._book.cached_passes,
                best_nll=None if self._best is None else self._best.nll,
                best_trial=None if self._best is None else self._best.trial,
                fraction=fraction,
                note=note,
            ),
            flush=flush,
        )
