"""Generators in processes of their own, on Ray: one stream of tasks in, one stream of outcomes out."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from types import TracebackType
from typing import cast

import ray
from ray.actor import ActorHandle, ActorProxy
from ray.exceptions import ActorHandleNotFoundError, RayError, RayTaskError

from evaluation.errors import EvaluationError
from ropewalk.errors import RopewalkError
from workers.base import ScorerSettings
from workers.errors import DocumentTooLong, ScoringFailed, WorkerLost, WorkersError
from workers.factory import make_generator
from workers.generator import Generator as Served
from workers.generator import ServingOutcome, ServingTask, perform
from workers.pool.cluster import ensure_ray, is_any_machine_alive
from workers.pool.slots import gpu_share, one_line

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_MAX_LOST = 3  # workers lost in a row, without a finished task in between
_TASK_ERRORS = (RopewalkError, ScoringFailed, DocumentTooLong)  # trouble that every worker would have with the task


class GenerationActor:
    """Lives in a Ray process; opens its generator with the first task."""

    def __init__(self, settings: ScorerSettings) -> None:
        self._settings = settings
        self._generator: Served | None = None

    @ray.method
    def perform(self, task: ServingTask) -> ServingOutcome:
        """Do one task; what raises is trouble of the machine, or of the model that cannot be opened."""
        self._generator = self._generator or make_generator(self._settings)
        try:
            return ServingOutcome(task_key=task.key, answer=perform(self._generator, task), error=None)
        except _TASK_ERRORS as error:
            return ServingOutcome(task_key=task.key, answer=None, error=str(error))


class GenerationPool:
    """Generates and reads on `workers` Ray actors, each with its own model; a context manager.

    Every task gets exactly one outcome, or `run` raises. A worker that dies is replaced and its task given to another,
    which answers the same: generation is greedy. Outcomes come as they finish, in no order. One run at a time.
    """

    def __init__(self, settings: ScorerSettings, *, workers: int) -> None:
        ensure_ray()
        cluster_gpus = ray.cluster_resources().get("GPU", 0.0)  # type: ignore[no-untyped-call]
        gpus = gpu_share(settings, workers=workers, cluster_gpus=cluster_gpus)
        actor_class = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(GenerationActor)
        self._start: Callable[[], ActorProxy[GenerationActor]] = lambda: actor_class.remote(settings)
        self._actors = [self._start() for _ in range(workers)]
        self._lost = 0

    def __enter__(self) -> GenerationPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all workers, whatever they do. May be called again."""
        for actor in self._actors:
            _kill(actor)
        self._actors = []

    def run(
        self, tasks: Iterable[ServingTask], *, check: Callable[[], None] = lambda: None
    ) -> Generator[ServingOutcome, None, None]:
        """Do `tasks`, yielding outcomes as they finish; what `check` raises, asked twice a second, ends the run.

        Raises:
            WorkersError, EvaluationError, RopewalkError: the model cannot be opened where the workers run.
            WorkerLost: workers died again and again, or no machine of the cluster is left.
        """
        waiting = iter(tasks)
        again: deque[ServingTask] = deque()
        idle = deque(range(len(self._actors)))
        running: dict[ray.ObjectRef[ServingOutcome], tuple[int, ServingTask]] = {}
        while True:
            while idle and (task := again.popleft() if again else next(waiting, None)) is not None:
                place = idle.popleft()
                running[self._actors[place].perform.remote(task)] = (place, task)
            if not running:
                return
            check()
            done, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_SECONDS)
            if not done and not is_any_machine_alive():
                raise WorkerLost("a Ray cluster must have a machine, but none of this one's is alive")
            for reference in done:
                place, task = running.pop(reference)
                outcome = self._outcome(reference, place)
                idle.append(place)
                if outcome is None:
                    again.append(task)
                else:
                    yield outcome

    def _outcome(self, reference: ray.ObjectRef[ServingOutcome], place: int) -> ServingOutcome | None:
        """None when the worker is lost, and another in its place."""
        try:
            outcome = ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, WorkersError | EvaluationError | RopewalkError):
                raise error.cause from None
            self._replace(place, one_line(error))
        except RayError as error:  # it died, or Ray's memory monitor has killed it
            self._replace(place, one_line(error))
        else:
            self._lost = 0
            return outcome
        return None

    def _replace(self, place: int, reason: str) -> None:
        self._lost += 1
        _log.warning("a generating worker is lost, number %d in a row: %s", self._lost, reason)
        if self._lost > _MAX_LOST:
            raise WorkerLost(
                f"workers must not be lost more than {_MAX_LOST} times in a row, but were; the last reason: {reason}"
            )
        _kill(self._actors[place])
        self._actors[place] = self._start()


def _kill(actor: ActorProxy[GenerationActor]) -> None:
    if ray.is_initialized():
        with suppress(ActorHandleNotFoundError):  # of a cluster that has died; this process has joined another since
            ray.kill(cast("ActorHandle[GenerationActor]", actor), no_restart=True)
