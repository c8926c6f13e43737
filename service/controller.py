"""The controller: claims jobs, runs each in a thread of its own, and records how it ended.

Any number of controllers may share one database. Each job belongs to the one that holds its lease; a controller that
dies simply stops renewing, and another claims the job when the lease has expired.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from service.errors import RunFailed, RunStopped
from service.evaluating import evaluation_result_json, prepare_evaluation, run_evaluation
from service.finetuning import run_finetune_job
from service.handoff import finetune_result_json, prepare_finetune
from service.lease import LeaseKeeper
from service.prepare import USER_ERRORS, prepare_search
from service.runtime import OpenPool, Runtime
from service.search import run_search
from service.spec import EvaluationSpec, FinetuneJobSpec, SearchSpec
from storage.database import Database
from storage.errors import DatabaseUnreachable, InvalidTransition, LeaseLost, SchemaOutdated, StorageError
from storage.jobs import JobStore
from storage.records import Job, JobState, Lease
from storage.score_cache import ScoreCache
from storage.scores import ScoreStore
from workers.base import ScorerSettings
from workers.cluster import ensure_ray
from workers.pool import ScoringPool

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
        owner: str | None = None,
        ray_address: str | None = None,
        lease_seconds: float = LEASE_SECONDS,
        poll_seconds: float = POLL_SECONDS,
        max_jobs: int = MAX_JOBS,
        open_pool: OpenPool | None = None,
        use_ray: bool = True,
    ) -> None:
        self.owner = owner or f"{socket.gethostname()}:{os.getpid()}"
        self._database = database
        self._jobs = JobStore(database)
        self._scores = ScoreStore(database)
        self._score_cache = ScoreCache(database)
        self._home = home
        self._ray_address = ray_address
        self._use_ray = use_ray  # without Ray, `open_pool` scores otherwise, and nothing can be fine-tuned
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        self._max_jobs = max_jobs
        self._open_pool: OpenPool = open_pool or _open_pool
        self._stopping = threading.Event()
        self._running: list[threading.Thread] = []
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
            self._running = [thread for thread in self._running if thread.is_alive()]
            if not (len(self._running) < self._max_jobs and self._claim_one()):
                self._stopping.wait(self._poll_seconds)

    def _claim_one(self) -> bool:
        try:
            claimed = self._jobs.claim(self.owner, self._lease_seconds)
        except StorageError as error:
            logger.warning("no job can be claimed now: %s", error)
            return False
        except Exception:
            # Whatever it was, the next look may succeed; without this thread every job would stay queued in silence.
            logger.exception("no job can be claimed now")
            return False
        if claimed is None:
            return False
        thread = threading.Thread(target=self._run, args=claimed, name=f"job-{claimed[0].id}", daemon=True)
        self._running.append(thread)
        thread.start()
        return True

    def _run(self, job: Job, lease: Lease) -> None:
        logger.info("%s claimed in state %s, epoch %d", job.id, job.state, lease.epoch)
        keeper = LeaseKeeper(self._jobs, job, lease, lease_seconds=self._lease_seconds, stopping=self._stopping)
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
            )
            try:
                self._run_to_its_end(runtime)
            except LeaseLost as error:
                logger.warning("%s was taken over: %s", job.id, error)
            except StorageError as error:
                logger.warning("%s is left to its lease: %s", job.id, error)

    def _run_to_its_end(self, runtime: Runtime) -> None:
        try:
            runtime.keeper.check()
            _RUNS[runtime.job.kind](runtime)
        except RunStopped as stopped:
            self._stop_run(runtime, stopped)
        except InvalidTransition as refused:
            # The user's cancellation or pause reached the database between two renewals.
            runtime.keeper.renew_now()
            if runtime.keeper.request == "none":
                raise
            self._stop_run(runtime, refused)
        except (LeaseLost, DatabaseUnreachable, SchemaOutdated):
            raise
        except (RunFailed, StorageError, *USER_ERRORS) as error:
            _fail(runtime, error.code, str(error))
        except Exception as error:
            logger.exception("%s failed unexpectedly", runtime.job.id)
            _fail(runtime, "INTERNAL_ERROR", f"{type(error).__name__}: {error}")

    def _stop_run(self, runtime: Runtime, stopped: Exception) -> None:
        lease = runtime.keeper.lease
        if runtime.keeper.request == "cancel":
            self._jobs.transition(lease, JobState.cancelled)
        elif runtime.keeper.request == "pause":
            self._jobs.transition(lease, JobState.paused)
        else:
            self._jobs.release(lease)
        logger.info("%s: %s", runtime.job.id, stopped)


def _fail(runtime: Runtime, code: str, message: str) -> None:
    runtime.jobs.transition(runtime.keeper.lease, JobState.failed, error_code=code, error_message=message)


def _prepare(runtime: Runtime) -> None:
    if runtime.job.state is JobState.queued:
        runtime.enter(JobState.preparing)


def _search(runtime: Runtime) -> None:
    spec = SearchSpec.model_validate_json(runtime.job.spec_json)
    _prepare(runtime)
    prepared = prepare_search(spec)
    result = run_search(runtime, prepared)
    _write_factor_file(runtime, result.factor_file.to_json())
    runtime.event("winner.chosen", trial=result.winner.trial, verdict=result.verdict, text=result.statement())
    if spec.finetune is None:
        runtime.jobs.transition(runtime.keeper.lease, JobState.succeeded, result_json=result.to_json())
        return
    finetune = FinetuneJobSpec(
        search_id=runtime.job.id, model=spec.model, settings=spec.finetune, labels=dict(runtime.job.labels)
    )
    runtime.jobs.hand_off(runtime.keeper.lease, finetune.canonical_json(), result.to_json())


def _write_factor_file(runtime: Runtime, text: str) -> None:
    """A copy for people; the job's result holds the file too, so a full disk does not cost the search."""
    try:
        runtime.artifacts.mkdir(parents=True, exist_ok=True)
        (runtime.artifacts / "factors.json").write_text(text, encoding="utf-8")
    except OSError as error:
        runtime.event("artifact.failed", name="factors.json", reason=str(error))


def _finetune(runtime: Runtime) -> None:
    spec = FinetuneJobSpec.model_validate_json(runtime.job.spec_json)
    _prepare(runtime)
    prepared = prepare_finetune(spec, runtime.jobs)
    result = run_finetune_job(runtime, prepared)
    runtime.jobs.transition(
        runtime.keeper.lease, JobState.succeeded, result_json=finetune_result_json(prepared, result)
    )


def _evaluation(runtime: Runtime) -> None:
    spec = EvaluationSpec.model_validate_json(runtime.job.spec_json)
    _prepare(runtime)
    prepared = prepare_evaluation(spec, runtime.jobs)
    rows = run_evaluation(runtime, prepared)
    result = evaluation_result_json(prepared, rows)
    runtime.jobs.transition(runtime.keeper.lease, JobState.succeeded, result_json=result)


_RUNS: dict[str, Callable[[Runtime], None]] = {"search": _search, "finetune": _finetune, "evaluation": _evaluation}


def _open_pool(settings: ScorerSettings, workers: int) -> ScoringPool:
    return ScoringPool(settings, workers=workers)
