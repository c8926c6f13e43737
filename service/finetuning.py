"""Fine-tuning on Ray: a process that trains, and the controller's loop that follows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import ray
from ray.actor import ActorHandle, ActorProxy
from ray.exceptions import RayActorError, RayTaskError

from service.errors import RunFailed
from service.handoff import PreparedFinetune
from service.runtime import ProgressWriter, Runtime
from storage.records import JobState, Progress

if TYPE_CHECKING:  # torch, which takes seconds, and which only the training process needs
    from finetune.job import FinetuneResult
    from finetune.training import TrainingProgress

POLL_SECONDS = 0.5


class FinetuneActor:
    """Trains in a process of its own; answers `progress` while `run` is at work."""

    def __init__(self) -> None:
        self._progress: TrainingProgress | None = None

    @ray.method
    def run(self, prepared: PreparedFinetune, output: Path) -> FinetuneResult:
        """Train to the end; the result names the checkpoint."""
        from finetune.job import run_finetune

        return run_finetune(prepared.source, prepared.file, prepared.settings, output, self._remember)

    @ray.method
    def progress(self) -> TrainingProgress | None:
        """The last step that is done; None before the first."""
        return self._progress

    def _remember(self, progress: TrainingProgress) -> None:
        self._progress = progress


def _start_actor() -> ActorProxy[FinetuneActor]:
    # Two calls at once: `run`, and `progress` beside it.
    actor_class = ray.remote(num_cpus=1, max_restarts=0)(FinetuneActor)
    gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0))  # type: ignore[no-untyped-call]
    return actor_class.options(max_concurrency=2, num_gpus=gpus).remote()


def run_finetune_job(runtime: Runtime, prepared: PreparedFinetune) -> FinetuneResult:
    """Train in an actor, follow it, and leave the checkpoint among the job's artifacts.

    A job that is taken over by another controller starts its training again from the first step: the data order is a
    function of the seed, so it ends at the same weights.

    Raises:
        LeaseLost, RunStopped: see `LeaseKeeper.check`; the training is killed.
        RunFailed: the training process died or refused; says why.
    """
    runtime.enter(JobState.training)
    # A directory of this owner's own: what a controller before it left half-done is in nobody's way.
    output = runtime.artifacts / f"checkpoint-{runtime.keeper.lease.epoch}"
    actor = _start_actor()
    try:
        return _follow(runtime, actor, actor.run.remote(prepared, output))
    except RayTaskError as error:
        cause = error.cause
        raise RunFailed(f"fine-tuning failed: {cause}", code=getattr(cause, "code", "FINETUNE_FAILED")) from error
    except RayActorError as error:
        raise RunFailed("the fine-tuning process died", code="WORKER_LOST") from error
    finally:
        ray.kill(cast("ActorHandle[FinetuneActor]", actor))


def _follow(
    runtime: Runtime, actor: ActorProxy[FinetuneActor], result: ray.ObjectRef[FinetuneResult]
) -> FinetuneResult:
    writer = ProgressWriter(runtime)
    seen = 0
    while True:
        runtime.keeper.check()
        done, _ = ray.wait([result], timeout=POLL_SECONDS)
        if done:
            return ray.get(result)
        asked = actor.progress.remote()
        answered, _ = ray.wait([asked], timeout=POLL_SECONDS)  # none while the actor waits for a free CPU
        progress = ray.get(asked) if answered else None
        if progress is not None and progress.step > seen:
            seen = progress.step
            writer.write(_to_record(progress))
            runtime.event(
                "training.step",
                step=progress.step,
                steps=progress.total,
                loss_long=progress.loss_long,
                loss_short=progress.loss_short,
                learning_rate=progress.learning_rate,
            )


def _to_record(progress: TrainingProgress) -> Progress:
    return Progress(
        stage="training",
        fraction=progress.step / progress.total,
        note=f"step {progress.step} of {progress.total}",
    )
