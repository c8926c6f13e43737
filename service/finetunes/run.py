"""Fine-tuning on Ray Train: an actor that drives the training, and the controller's loop that follows it.

    controller ── FinetuneActor ── Ray Train's controller ── one worker per device (`finetune.ray_worker`)

Killed, the actor takes its processes with it but leaves their placement group, which Ray cleans up only where its
dashboard runs. So a training is ended through Ray Train's controller, which lets go of everything.
"""

from __future__ import annotations

import contextlib
from typing import cast

import ray
from ray.actor import ActorHandle, ActorProxy
from ray.exceptions import RayError, RayTaskError

from finetune.errors import InvalidFinetuneSettings
from finetune.results import TrainingProgress
from finetune.rows import training_tokens
from finetune.worker_task import WorkerTask
from ropewalk.factors.exports.hf import switch_length
from ropewalk.wire.kinds import JobState
from service.errors import FilesUnreachable, RunFailed, RunStopped
from service.files import Files
from service.finetunes.actor import MAX_WORKER_FAILURES, FinetuneActor, Start, start_actor
from service.finetunes.prepare import PreparedFinetune, check_room, training_room
from service.finetunes.upload import Trained, Upload
from service.runtime.failures import is_infrastructure
from service.runtime.job import ProgressWriter, Runtime
from service.runtime.starting import StartWatch
from storage.artifacts import Artifacts
from storage.records import Progress
from workers.pool.cluster import resources
from workers.pool.room import Room

POLL_SECONDS = 0.5


def run_finetune_job(runtime: Runtime, prepared: PreparedFinetune) -> Trained:
    """Train on Ray, follow it, and leave the checkpoint in the store, with rows of its files.

    The training goes on from the last state that any owner of this job has kept, and ends at the same weights as one
    that was never interrupted: the data of a step is a function of the seed. States go when the job ends for good;
    after a success the caller drops them (`forget_states`), once it is recorded.

    Raises:
        LeaseLost, RunStopped: see `LeaseKeeper.check`; the training is killed.
        RunFailed: the training processes died too often or refused; says why.
    """
    runtime.enter(JobState.training)
    upload = Upload(store=runtime.store, job_id=runtime.job.id, epoch=runtime.keeper.lease.epoch)
    if upload.states_directory is not None:
        upload.states_directory.mkdir(parents=True, exist_ok=True)
    try:
        trained = _run(runtime, _task(runtime, prepared, upload), upload)
        Artifacts(runtime.database).record(runtime.keeper.lease, trained.files)
        return trained
    except (RunStopped, RunFailed) as error:
        refused = isinstance(error, RunFailed) and not is_infrastructure(error)
        if refused or runtime.keeper.request == "cancel":
            forget_states(runtime)
        raise


def forget_states(runtime: Runtime) -> None:
    """Delete what the training could be resumed from; what cannot be reached now goes with the job, or expires."""
    with contextlib.suppress(OSError):
        Files(runtime.home, runtime.store).remove_states(runtime.job.id)


def _task(runtime: Runtime, prepared: PreparedFinetune, upload: Upload) -> WorkerTask:
    return WorkerTask(
        source=prepared.source,
        file=prepared.file,
        settings=prepared.settings,
        output=upload.output,
        states=upload.states_directory,
        token_cache=(runtime.home / "tokens").absolute(),
    )


def _run(runtime: Runtime, task: WorkerTask, upload: Upload) -> Trained:
    use_gpu = _use_gpu(task)
    actor = start_actor()
    try:
        result = actor.run.remote(task, upload, f"owner-{runtime.keeper.lease.epoch}", use_gpu)
        return _follow(runtime, actor, result, task, gpus_each=1.0 if use_gpu else 0.0)
    except RayTaskError as error:
        raise _failure(error.cause) from error
    except RayError as error:
        raise RunFailed(f"the fine-tuning process died: {_last_line(error)}", code="WORKER_LOST") from error
    except Exception:  # the lease is lost, the user asked, the database is away: the training goes on without us
        with contextlib.suppress(RayError):
            ray.get(actor.end.remote())
        raise
    finally:
        ray.kill(cast("ActorHandle[FinetuneActor]", actor))


def _use_gpu(task: WorkerTask) -> bool:
    try:
        room = training_room(resources(), task.settings)
        check_room(room)
    except InvalidFinetuneSettings as error:
        raise RunFailed(str(error), code=error.code) from error
    return room.gpus_each > 0


def _failure(cause: Exception) -> RunFailed:
    """What the job shows: a refusal by its own code, lost processes as such, anything else as a failed fine-tuning."""
    from ray.train import WorkerGroupError

    from service.finetunes.train_controller import is_lost_worker, raised_by_worker

    code = getattr(cause, "code", "FINETUNE_FAILED")
    if isinstance(cause, WorkerGroupError):
        failures = list(cause.worker_failures.values())
        lost = [failure for failure in failures if is_lost_worker(failure)]  # what the others say comes of it
        if lost:
            times = MAX_WORKER_FAILURES + 1
            return RunFailed(f"the fine-tuning lost workers {times} times: {_last_line(lost[0])}", code="WORKER_LOST")
        away = [found for failure in failures if isinstance(found := raised_by_worker(failure), FilesUnreachable)]
        if away:
            return RunFailed(str(away[0]), code=FilesUnreachable.code)
        cause = failures[0]
    return RunFailed(f"fine-tuning failed: {_last_line(cause)}", code=code)


def _last_line(error: Exception) -> str:
    """Errors from other processes carry their traceback; it ends with what went wrong."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _follow(
    runtime: Runtime,
    actor: ActorProxy[FinetuneActor],
    result: ray.ObjectRef[Trained],
    task: WorkerTask,
    *,
    gpus_each: float,
) -> Trained:
    book = _ProgressBook(runtime, task)
    workers = task.settings.workers
    watch = StartWatch(runtime, lambda: _room(_start(actor), workers=workers, gpus_each=gpus_each))
    while True:
        (watch if book.is_empty else runtime.keeper).check()
        done, _ = ray.wait([result], timeout=POLL_SECONDS)
        asked = actor.progress.remote()
        answered, _ = ray.wait([asked], timeout=POLL_SECONDS)  # none while the actor starts
        if answered and (progress := ray.get(asked)) is not None:
            if book.is_empty:
                where = "GPUs" if gpus_each else "CPUs"
                runtime.set_condition("WorkersReady", True, "Ready", f"{workers} of {workers} workers train on {where}")
            book.note(progress)
        if done:
            return ray.get(result)


def _start(actor: ActorProxy[FinetuneActor]) -> Start:
    asked = actor.start.remote()
    answered, _ = ray.wait([asked], timeout=POLL_SECONDS)  # none while the actor starts
    return ray.get(asked) if answered else Start()


def _room(start: Start, *, workers: int, gpus_each: float) -> Room:
    placed = workers if start.has_begun else 0
    return resources().room(workers=workers, gpus_each=gpus_each, placed=placed, together=True, loaded=start.loaded)


class _ProgressBook:
    """Writes down how a training goes, as often as it is looked at."""

    def __init__(self, runtime: Runtime, task: WorkerTask) -> None:
        self._runtime = runtime
        self._steps_kept = task.settings.checkpoint_every
        self._task = task
        self._writer = ProgressWriter(runtime)
        self._last: TrainingProgress | None = None
        self._kept = 0
        """The first step under this lease that a state of this lease may hold."""

    @property
    def is_empty(self) -> bool:
        """Whether no step was seen yet."""
        return self._last is None

    def note(self, progress: TrainingProgress) -> None:
        """Progress column and events; nothing when it was seen before."""
        if self._last is None or progress.began_at != self._last.began_at:
            self._kept = progress.began_at + self._steps_kept
            if progress.began_at > 0:
                self._runtime.event("training.resumed", step=progress.began_at)
        if progress == self._last:
            return
        self._last = progress
        if progress.step >= self._kept:
            self._runtime.keeper.accepted(self._runtime.keeper.request)
        tokens, total = self._tokens(progress.step), self._tokens(progress.total)
        self._writer.write(_to_record(progress, tokens, total), flush=progress.step == progress.total)
        self._runtime.event(
            "training.step",
            step=progress.step,
            steps=progress.total,
            tokens=tokens,
            loss_long=progress.loss_long,
            loss_middle=progress.loss_middle,
            loss_short=progress.loss_short,
            loss_skipped=progress.loss_skipped,
            learning_rate=progress.learning_rate,
        )

    def _tokens(self, steps: int) -> int:
        """Of the first so many steps."""
        file = self._task.file
        lengths = {"original_length": switch_length(file), "target_length": file.target_length}
        return training_tokens(self._task.settings, steps, **lengths)


def _to_record(progress: TrainingProgress, tokens: int, total_tokens: int) -> Progress:
    return Progress(
        stage="training",
        tokens=tokens,
        total_tokens=total_tokens,
        fraction=progress.step / progress.total,
        seconds_left=progress.seconds / progress.step * (progress.total - progress.step),
        note=f"step {progress.step} of {progress.total}",
    )
