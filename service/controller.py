"""The controller: claims jobs, runs each in a thread of its own, and records how it ended.

Any number of controllers may share one database. Each job belongs to the one that holds its lease; a controller that
dies simply stops renewing, and another claims the job when the lease has expired.
"""

import logging
import os
import socket
import threading
from pathlib import Path

from service.artifacts.opening import open_store
from service.artifacts.store import ArtifactStore
from service.running import run_job
from service.runtime.crash_points import Reach, never
from service.runtime.failures import RetryPolicy
from service.runtime.job import OpenPool, Runtime
from service.runtime.lease import LeaseKeeper
from service.runtime.log_context import bound
from service.runtime.tracing import span
from storage.errors import DatabaseUnreachable, LeaseLost, StorageError
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import Job, Lease
from storage.scores.cache import ScoreCache
from storage.scores.store import ScoreStore
from workers.base import ScorerSettings
from workers.pool.cluster import ensure_ray
from workers.pool.scoring import ScoringPool

LEASE_SECONDS = 10.0
POLL_SECONDS = 0.5  # between two looks for a job to claim
MAX_JOBS = 4  # at once; what runs at the same time is decided by the CPUs and GPUs that Ray has free

logger = logging.getLogger("ropewalk.controller")


class Controller:
    """Runs jobs until stopped. `start` and `stop` are called once each, from one thread."""

    def __init__(
        self,
        database: Database,
        *,
        home: Path,
        store: ArtifactStore | None = None,
        owner: str | None = None,
        ray_address: str | None = None,
        lease_seconds: float = LEASE_SECONDS,
        poll_seconds: float = POLL_SECONDS,
        max_jobs: int = MAX_JOBS,
        open_pool: OpenPool | None = None,
        use_ray: bool = True,
        retry: RetryPolicy | None = None,
        reach: Reach = never,
    ) -> None:
        self.owner = owner or f"{socket.gethostname()}:{os.getpid()}"
        self._database = database
        self._jobs = JobStore(database)
        self._scores = ScoreStore(database)
        self._score_cache = ScoreCache(database)
        self._home = home
        self._store = store or open_store(None, home)
        self._ray_address = ray_address
        self._use_ray = use_ray  # without Ray, `open_pool` scores otherwise, and nothing can be fine-tuned
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        self._max_jobs = max_jobs
        self._open_pool: OpenPool = open_pool or _open_pool
        self._retry = retry or RetryPolicy()
        self._reach = reach
        self._unclaimed: str | None = None  # why the last look for a job failed
        self._stopping = threading.Event()
        self._running: dict[threading.Thread, str] = {}  # and the job that it runs
        self._thread = threading.Thread(target=self._claim_forever, name="controller", daemon=True)

    def start(self) -> None:
        """Join the Ray cluster and begin to claim jobs in a background thread."""
        if self._use_ray:
            ensure_ray(self._ray_address)
        self._thread.start()

    def stop(self) -> None:
        """Let go of every job so that another controller can go on at once; returns when all threads have ended."""
        self._stopping.set()
        self._thread.join()
        for thread in self._running:
            thread.join()

    def run_forever(self) -> None:
        """`start`, then wait for `stop` from another thread or a signal handler."""
        self.start()
        self._thread.join()

    def _claim_forever(self) -> None:
        while not self._stopping.is_set():
            self._running = {thread: job for thread, job in self._running.items() if thread.is_alive()}
            if not (len(self._running) < self._max_jobs and self._claim_one()):
                self._stopping.wait(self._poll_seconds)

    def _claim_one(self) -> bool:
        self._reach("before claim")
        try:
            claimed = self._jobs.claim(self.owner, self._lease_seconds, running=self._running.values())
        except Exception as error:
            # Whatever it was, the next look may succeed; without this thread every job would stay queued in silence.
            self._tell_once(error)
            return False
        self._unclaimed = None
        if claimed is None:
            return False
        self._reach("after claim")
        thread = threading.Thread(target=self._run, args=claimed, name=f"job-{claimed[0].id}", daemon=True)
        self._running[thread] = claimed[0].id
        thread.start()
        return True

    def _tell_once(self, error: Exception) -> None:
        """A line for each new reason, not for each look; of an outage, the database's own log line tells."""
        reason, before = f"{type(error).__name__}: {error}", self._unclaimed
        self._unclaimed = reason
        if reason != before and not isinstance(error, DatabaseUnreachable):
            ours = isinstance(error, StorageError)
            logger.warning("no job can be claimed now: %s", error if ours else reason, exc_info=None if ours else error)

    def _run(self, job: Job, lease: Lease) -> None:
        with bound(**{f"{job.kind}_id": job.id}), span(f"job {job.kind}", epoch=lease.epoch):
            self._run_bound(job, lease)

    def _run_bound(self, job: Job, lease: Lease) -> None:
        logger.info("%s claimed in state %s, epoch %d", job.id, job.state, lease.epoch)
        keeper = LeaseKeeper(
            self._jobs, job, lease, lease_seconds=self._lease_seconds, stopping=self._stopping, reach=self._reach
        )
        with keeper:
            runtime = Runtime(
                job=job,
                keeper=keeper,
                database=self._database,
                jobs=self._jobs,
                scores=self._scores,
                score_cache=self._score_cache,
                home=self._home,
                open_pool=self._open_pool,
                store=self._store,
                reach=self._reach,
            )
            try:
                run_job(runtime, retry=self._retry)
            except LeaseLost as error:
                logger.warning("%s was taken over: %s", job.id, error)
            except DatabaseUnreachable:
                logger.info("%s is left to its lease until the database is back", job.id)
            except StorageError as error:
                logger.warning("%s is left to its lease: %s", job.id, error)


def _open_pool(settings: ScorerSettings, workers: int) -> ScoringPool:
    return ScoringPool(settings, workers=workers)
