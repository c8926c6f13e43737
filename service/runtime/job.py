"""What every run of a job gets: the stores, the lease, and how to open a pool of scorers."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from ropewalk.wire.kinds import JobState
from service.artifacts.store import ArtifactStore
from service.runtime.crash_points import Reach, never
from service.runtime.lease import LeaseKeeper
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import Condition, ConditionType, Job, Progress
from storage.scores.cache import ScoreCache
from storage.scores.store import ScoreStore
from workers.base import ScorerInfo, ScorerSettings, ScoringOutcome, ScoringTask
from workers.pool.room import Room

PROGRESS_INTERVAL = 0.5  # seconds between two writes of the progress columns


class Pool(Protocol):
    """What a run needs of `workers.pool.scoring.ScoringPool`; see there for the guarantees."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def left_out(self) -> Mapping[str, str]:
        """Machines that are not used any more, each with its reason."""

    def room(self) -> Room | None:
        """What its workers need of a cluster, and what that has; None without one."""

    def scorer(self, *, check: Callable[[], None] = lambda: None) -> ScorerInfo:
        """What scores here, before anything is scored; `check` as in `run`."""

    def run(
        self, tasks: Iterable[ScoringTask], *, check: Callable[[], None] = lambda: None
    ) -> Iterator[ScoringOutcome]:
        """One outcome per task, in no order; `check` is called while waiting, and may raise to end the run."""


OpenPool = Callable[[ScorerSettings, int], Pool]
"""(settings, number of workers) -> a pool to be used as a context manager."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """One job in this controller's hands."""

    job: Job
    keeper: LeaseKeeper
    database: Database
    jobs: JobStore
    scores: ScoreStore
    score_cache: ScoreCache
    home: Path
    open_pool: OpenPool
    store: ArtifactStore
    reach: Reach = never

    def enter(self, state: JobState, *, unless: JobState | None = None) -> None:
        """Move the job to `state`, unless a controller before this one did so already or had it at `unless`."""
        if self.jobs.get(self.job.id).state not in (state, unless):
            self.jobs.transition(self.keeper.lease, state)

    def set_condition(self, type: ConditionType, status: bool, reason: str, message: str) -> None:
        """Show a condition of the job."""
        self.jobs.set_conditions(self.keeper.lease, Condition(type=type, status=status, reason=reason, message=message))

    def event(self, kind: str, **data: object) -> None:
        """Append an event to the job's history."""
        self.jobs.append_event(self.keeper.lease, kind, json.dumps(data))


class Pace:
    """How fast work is done in these hands; what was done before counts for nothing. It begins with the first look."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: tuple[float, float] | None = None

    def seconds_left(self, done: float, total: float) -> float | None:
        """Until `total` at the speed so far; None until something is done."""
        now = self._clock()
        began_at, had = self._began = self._began or (now, done)
        if done <= had:
            return None
        return (now - began_at) / (done - had) * max(total - done, 0.0)


class ProgressWriter:
    """Writes the progress columns at most every `PROGRESS_INTERVAL`, and when flushed."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._written_at = 0.0

    def write(self, progress: Progress, *, flush: bool = False) -> None:
        """Store `progress` unless the last write is too recent."""
        if flush or time.monotonic() - self._written_at >= PROGRESS_INTERVAL:
            self._runtime.jobs.update_progress(self._runtime.keeper.lease, progress)
            self._written_at = time.monotonic()
