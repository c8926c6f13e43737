"""The process that runs Ray Train for one fine-tuning, and what the others tell it."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from dataclasses import dataclass
from typing import Any

import ray
from ray.actor import ActorHandle, ActorProxy
from ray.exceptions import GetTimeoutError, RayActorError

from evaluation.models.loading import seldom
from finetune.results import FinetuneResult, TrainingProgress
from finetune.worker_task import WorkerTask
from service.finetunes.states import STATES_KEPT
from service.finetunes.upload import Trained, Upload

MAX_WORKER_FAILURES = 3  # workers that may be lost before the job fails; each time the last state is gone on from

_TRAIN_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how soon the end of a worker is noticed
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of a corpus mean the same as in the controller
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process more; a node that goes is a worker that is lost
}
END_SECONDS = 90.0  # Ray Train may be waiting for a free CPU, for a minute at most, before it hears


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """How far a training is that has not made a step. loaded: the share of the model's tensors that are read, 0 to 1;
    None before the first."""

    has_begun: bool = False
    loaded: float | None = None


class FinetuneActor:
    """Runs Ray Train in a process of its own; answers `progress` while `run` is at work, and hears from the workers."""

    def __init__(self) -> None:
        self._start = Start()
        self._progress: TrainingProgress | None = None
        self._result: Trained | None = None
        self._refusal: Exception | None = None
        self._controller: ActorHandle[Any] | None = None

    @ray.method
    def run(self, task: WorkerTask, upload: Upload, run_name: str, use_gpu: bool) -> Trained:
        """Train to the end; the result says where the checkpoint is and what is in it."""
        with tempfile.TemporaryDirectory(prefix="ropewalk-train-") as scratch:
            # Ray keeps its own notes of the run there, and states where that is a directory for them.
            self._train(task, upload, run_name, use_gpu, storage=str(task.states or scratch))
        if self._refusal is not None:
            raise self._refusal
        assert self._result is not None  # the first worker has ended well
        return self._result

    def _train(self, task: WorkerTask, upload: Upload, run_name: str, use_gpu: bool, *, storage: str) -> None:
        from ray import train
        from ray.train.torch import TorchTrainer

        from finetune.ray_worker import train_worker
        from service.finetunes.train_controller import tell_controller

        me = ray.get_runtime_context().current_actor
        trainer = TorchTrainer(
            functools.partial(train_worker, task, _ToActor(me, upload), upload.states()),
            scaling_config=train.ScalingConfig(num_workers=task.settings.workers, use_gpu=use_gpu),
            run_config=train.RunConfig(
                name=run_name,
                storage_path=storage,
                failure_config=train.FailureConfig(max_failures=MAX_WORKER_FAILURES),
                checkpoint_config=train.CheckpointConfig(num_to_keep=STATES_KEPT),
                callbacks=[tell_controller(me)],
            ),
        )
        trainer.fit()

    @ray.method
    def progress(self) -> TrainingProgress | None:
        """The last step that is done; None before the first."""
        return self._progress

    @ray.method
    def start(self) -> Start:
        """Whether all workers have their places, and the first its model."""
        return self._start

    @ray.method
    def began(self) -> None:
        """From the first worker."""
        self._start = Start(has_begun=True)

    @ray.method
    def loading(self, share: float) -> None:
        """From the first worker."""
        self._start = Start(has_begun=True, loaded=share)

    @ray.method
    def controller_started(self, controller: ActorHandle[Any]) -> None:
        """From Ray Train's controller."""
        self._controller = controller

    @ray.method
    def end(self) -> None:
        """End the run, from the beginning on; `run` does not return then."""
        if self._controller is not None:
            with contextlib.suppress(RayActorError, GetTimeoutError):  # it ends without an answer
                ray.get(self._controller.abort.remote(), timeout=END_SECONDS)

    @ray.method
    def step_done(self, progress: TrainingProgress) -> None:
        """From the first worker."""
        self._progress = progress

    @ray.method
    def succeeded(self, result: Trained) -> None:
        """From the first worker."""
        self._result = result

    @ray.method
    def refused(self, error: Exception) -> None:
        """From the first worker."""
        self._refusal = error


class _ToActor:
    """`finetune.ray_worker.Reporter` in a worker: what it says is known to the actor when the call returns."""

    def __init__(self, actor: Any, upload: Upload) -> None:
        self._actor, self._upload = actor, upload
        self.loading = seldom(lambda share: ray.get(actor.loading.remote(share)))

    def began(self) -> None:
        ray.get(self._actor.began.remote())

    def step_done(self, progress: TrainingProgress) -> None:
        ray.get(self._actor.step_done.remote(progress))

    def succeeded(self, result: FinetuneResult) -> None:
        place, files = self._upload.checkpoint(result.checkpoint)
        ray.get(self._actor.succeeded.remote(Trained(result=result, checkpoint=place, files=files)))

    def refused(self, error: Exception) -> None:
        ray.get(self._actor.refused.remote(error))


def start_actor() -> ActorProxy[FinetuneActor]:
    """A new one, which takes no CPU: its workers do."""
    # Four calls at once: `run`, what the service asks, and what the first worker tells.
    actor_class = ray.remote(num_cpus=0, max_restarts=0)(FinetuneActor)
    return actor_class.options(max_concurrency=4, runtime_env={"env_vars": _TRAIN_ENVIRONMENT}).remote()
