"""What a controller spends on a document score beside the score itself: a whole search with a scorer that costs little.

The search runs as any other, through `service.running.run_job`, on the analytic scorer; only the pool is in this
process and knows when it was asked for the next task.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.scoring.ratios import seconds
from benchmarks.storage.table import Timings
from ropewalk.wire.kinds import JobRequest
from service.artifacts.opening import open_store
from service.door import Door
from service.running import run_job
from service.runtime.failures import RetryPolicy
from service.runtime.job import Runtime
from service.runtime.lease import LeaseKeeper
from service.specs.search import SearchSpec
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.scores.acceptance import Acceptance, NewScore
from storage.scores.cache import ScoreCache
from storage.scores.store import ScoreStore
from workers.base import ScorerSettings, ScoringOutcome, ScoringTask
from workers.pool.in_process import InProcessPool

LEASE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopwatch:
    """What is noted while a search runs, in seconds."""

    #: from handing a score over until the next task is there
    overheads: list[float] = field(default_factory=list)
    #: of them, in `Acceptance.accept`
    accepting: list[float] = field(default_factory=list)
    #: the smallest write of the database, in turns with the scores
    bare: list[float] = field(default_factory=list)
    #: from the last score of a generation to the first task of the next: pictures, breeding, new trials
    between: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class RanSearch:
    """A search that has succeeded, and what it took."""

    search_id: str
    overhead: Timings
    accepting: Timings
    bare: Timings
    between: Timings


class TimedPool(InProcessPool):
    """Keeps time; calls `bare` after each score."""

    def __init__(self, settings: ScorerSettings, watch: Stopwatch, bare: Callable[[], object] | None) -> None:
        super().__init__(settings)
        self._watch = watch
        self._bare = bare
        self._ended: float | None = None

    def run(
        self, tasks: Iterable[ScoringTask], *, check: Callable[[], None] = lambda: None
    ) -> Iterator[ScoringOutcome]:
        """One outcome after the other. Starting, completing and reporting trials falls into the time measured."""
        waiting = iter(tasks)
        task = next(waiting, None)
        if self._ended is not None:
            self._watch.between.append(time.perf_counter() - self._ended)
        while task is not None:
            outcome = self.score(task)
            started = time.perf_counter()
            yield outcome
            check()
            task = next(waiting, None)
            self._watch.overheads.append(time.perf_counter() - started)
            if self._bare is not None:
                self._watch.bare.append(seconds(self._bare))
        self._ended = time.perf_counter()


def search_spec(*, trials: int, documents: int, seed: int) -> SearchSpec:
    """An evolution search of the pocket model with that many bred candidates."""
    return SearchSpec.model_validate(
        {
            "model": "pocket",
            "target_length": 512,
            "objective": {"documents": documents, "validation_documents": documents},
            "strategy": {"name": "evolution", "iterations": max(1, -(-trials // 32))},
            "budget": {"max_trials": trials},
            "scorer": {"backend": "analytic"},
            "seed": seed,
            "labels": {"team": "benchmark"},
        }
    )


def run_search_here(
    database: Database, spec: SearchSpec, *, home: Path, bare: Callable[[], object] | None = None
) -> RanSearch:
    """Run one search to its end in this thread."""
    watch = Stopwatch()
    jobs = JobStore(database)
    submitted = Door(database).submissions.submit_search(spec).job.id
    claimed = jobs.claim("benchmark", LEASE_SECONDS, ["search"])
    assert claimed is not None
    job, lease = claimed
    assert job.id == submitted
    with LeaseKeeper(jobs, job, lease, lease_seconds=LEASE_SECONDS) as keeper, _timing_acceptance(watch.accepting):
        runtime = Runtime(
            job=job,
            keeper=keeper,
            database=database,
            jobs=jobs,
            scores=ScoreStore(database),
            score_cache=ScoreCache(database),
            home=home,
            store=open_store(None, home),
            open_pool=lambda settings, workers: TimedPool(settings, watch, bare),
        )
        run_job(runtime, retry=RetryPolicy())
    ended = jobs.get(job.id)
    assert ended.state == "succeeded", (ended.error_code, ended.error_message)
    return RanSearch(
        search_id=job.id,
        overhead=Timings(name="a document score, all that the controller does", seconds=tuple(watch.overheads)),
        accepting=Timings(name="of that, `Acceptance.accept`", seconds=tuple(watch.accepting)),
        bare=Timings(name="PostgreSQL: one INSERT of one number, committed", seconds=tuple(watch.bare)),
        between=Timings(name="between two generations", seconds=tuple(watch.between)),
    )


@contextmanager
def _timing_acceptance(noted: list[float]) -> Iterator[None]:
    accept = Acceptance.accept

    def timed(self: Acceptance, scores: Sequence[NewScore]) -> JobRequest:
        started = time.perf_counter()
        request = accept(self, scores)
        noted.append(time.perf_counter() - started)
        return request

    Acceptance.accept = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        Acceptance.accept = accept  # type: ignore[method-assign]
