"""One search from its first candidate to its winner; resumes from what the database holds.

Nothing that decides is kept in memory only: candidates come from (seed, generation, slot) and the scores of the
generations before, so a controller that takes over breeds the same candidates and ends with the same winner.
"""

import math
from collections.abc import Sequence

from evaluation.needle import Split
from evaluation.score import DocumentScore, ScoreSummary
from search_space.candidate import Candidate, ScoredCandidate
from service.prepare import PreparedSearch
from service.results import FINALISTS, SearchResult, choose_finalists, decide
from service.runtime import Pool, ProgressWriter, Runtime
from service.score_book import Listeners, ScoreBook
from storage.records import JobState, Progress, TrialRecord
from storage.study import StudyRecord


def run_search(runtime: Runtime, prepared: PreparedSearch) -> SearchResult:
    """Breed, score and validate until the winner is known. The job is left in state `validating`.

    Raises:
        LeaseLost, RunStopped: see `LeaseKeeper.check`.
        WorkersError: no worker could be kept alive.
    """
    run = _SearchRun(runtime, prepared)
    with runtime.open_pool(prepared.scorer_settings(), prepared.spec.workers) as pool:
        run.search(pool)
        return run.validate(pool)


class _SearchRun:
    def __init__(self, runtime: Runtime, prepared: PreparedSearch) -> None:
        self._runtime = runtime
        self._prepared = prepared
        self._spec = prepared.spec
        self._study = StudyRecord(runtime.database, runtime.job.id, runtime.keeper.lease)
        self._study.create_if_missing(model=self._spec.model, target_length=self._spec.target_length)
        self._search_book = self._open_book("search")
        self._progress = ProgressWriter(runtime)
        self._expected_passes = max(1, prepared.max_document_passes())
        self._generation = 0
        self._best: tuple[float, int] | None = None  # (search NLL, trial)

    def _open_book(self, split: Split) -> ScoreBook:
        documents = self._prepared.documents(split)
        return ScoreBook(self._runtime.scores, self._runtime.keeper, split=split, documents=documents)

    # -- searching ---------------------------------------------------------------------------------------------------

    def search(self, pool: Pool) -> None:
        """Breed and score generations until the strategy or the budget ends."""
        self._runtime.enter(JobState.searching, unless=JobState.validating)
        for generation in range(self._spec.budget.max_trials + 1):
            self._generation = generation
            trials = self._study.trials()
            history = [trial for trial in trials if trial.generation < self._generation]
            self._best = _best(history)
            candidates = self._next_candidates(history)
            if not candidates:
                break
            self._study.add_candidates(self._generation, candidates)
            self._score_generation(pool)
        self._report(flush=True)

    def _next_candidates(self, history: Sequence[TrialRecord]) -> tuple[Candidate, ...]:
        """The generation's candidates within the budget; empty when the search is over. Pure in the history."""
        if self._patience_is_spent(history):
            return ()
        scored = [
            ScoredCandidate(
                trial=trial.number,
                generation=trial.generation,
                candidate=trial.candidate,
                nll=math.inf if trial.nll is None else trial.nll,
            )
            for trial in history
        ]
        proposed = self._prepared.strategy.propose(self._generation, scored)
        baselines = tuple(candidate for candidate in proposed if candidate.baseline_name is not None)
        bred = tuple(candidate for candidate in proposed if candidate.baseline_name is None)
        return (*baselines, *bred[: self._candidates_left(history, len(baselines))])

    def _candidates_left(self, history: Sequence[TrialRecord], new_baselines: int) -> int:
        budget = self._spec.budget
        left = budget.max_trials - sum(trial.candidate.baseline_name is None for trial in history)
        if budget.max_document_passes is not None:
            affordable = budget.max_document_passes // self._spec.objective.documents
            left = min(left, affordable - len(history) - new_baselines)
        return max(0, left)

    def _patience_is_spent(self, history: Sequence[TrialRecord]) -> bool:
        patience = self._spec.budget.patience
        best = _best([trial for trial in history if trial.candidate.baseline_name is None])
        if patience is None or best is None:
            return False
        found_in = next(trial.generation for trial in history if trial.number == best[1])
        return self._generation - 1 - found_in >= patience

    def _score_generation(self, pool: Pool) -> None:
        trials = [trial for trial in self._study.trials() if trial.generation == self._generation]
        open_trials = {trial.number: trial.candidate for trial in trials if not trial.is_finished}
        listeners = Listeners(
            on_start=self._study.start,
            on_score=self._on_score,
            on_complete=self._on_complete,
            on_failure=self._on_failure,
        )
        self._search_book.score_missing(pool, open_trials, listeners)
        self._runtime.event(
            "generation.finished",
            generation=self._generation,
            trials=len(trials),
            document_passes=self._search_book.document_passes,
            best_nll=None if self._best is None else self._best[0],
        )

    def _on_score(self, trial: int, index: int, score: DocumentScore) -> None:
        self._study.report(trial, index, score.nats / score.tokens)
        self._report()

    def _on_complete(self, trial: int, summary: ScoreSummary) -> None:
        self._study.finish(trial, summary.nll)
        if self._best is None or (summary.nll, trial) < self._best:
            self._best = (summary.nll, trial)
            self._runtime.event(
                "best.improved",
                trial=trial,
                nll=summary.nll,
                generation=self._generation,
                document_passes=self._search_book.document_passes,
            )
        self._report()

    def _on_failure(self, trial: int, reason: str) -> None:
        self._study.fail(trial, reason)
        self._runtime.event("trial.failed", trial=trial, reason=reason)

    def _report(self, *, flush: bool = False) -> None:
        done, total = self._search_book.document_passes, self._expected_passes
        self._progress.write(
            Progress(
                stage="searching",
                generation=self._generation,
                trials=done // self._spec.objective.documents,
                document_passes=done,
                total_document_passes=total,
                best_nll=None if self._best is None else self._best[0],
                best_trial=None if self._best is None else self._best[1],
                fraction=min(1.0, done / total),
            ),
            flush=flush,
        )

    # -- validating --------------------------------------------------------------------------------------------------

    def validate(self, pool: Pool) -> SearchResult:
        """Score the finalists on held-out documents and choose the winner there."""
        self._runtime.enter(JobState.validating)
        trials = self._study.trials()
        finalists = choose_finalists(trials)
        book = self._open_book("validation")
        total = len(finalists) * self._spec.objective.validation_documents
        passes_before = self._search_book.document_passes
        failed: set[int] = set()

        def report(*_: object) -> None:
            done = book.document_passes
            self._progress.write(
                Progress(
                    stage="validating",
                    generation=self._generation,
                    trials=len(trials),
                    document_passes=passes_before + done,
                    total_document_passes=passes_before + total,
                    best_nll=None if self._best is None else self._best[0],
                    best_trial=None if self._best is None else self._best[1],
                    fraction=done / total,
                    note=f"{len(finalists)} finalists, at most {FINALISTS} of them bred",
                ),
                flush=done == total,
            )

        def on_failure(trial: int, reason: str) -> None:
            failed.add(trial)
            self._runtime.event("trial.failed", trial=trial, reason=reason)

        listeners = Listeners(on_start=lambda trial: None, on_score=report, on_complete=report, on_failure=on_failure)
        book.score_missing(pool, {trial.number: trial.candidate for trial in finalists}, listeners)
        survivors = [trial for trial in finalists if trial.number not in failed]
        return decide(self._prepared, self._runtime.job.id, survivors, self._search_book, book)


def _best(trials: Sequence[TrialRecord]) -> tuple[float, int] | None:
    return min(((trial.nll, trial.number) for trial in trials if trial.nll is not None), default=None)
