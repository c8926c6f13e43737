"""Generators in processes of their own, on Ray: one stream of tasks in, one stream of outcomes out."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
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
from workers.pool.cluster import ensure_ray, is_any_machine_alive, machines, resources
from workers.pool.loading import LoadingNote, furthest
from workers.pool.room import MOST_WAITING, Room, check_holds_one, gpu_share, most_workers
from workers.pool.slots import one_line

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_GROW_SECONDS = 10.0  # between two looks whether the cluster has grown
_MAX_LOST = 3  # workers lost in a row, without a finished task in between
_TASK_ERRORS = (RopewalkError, ScoringFailed, DocumentTooLong)  # trouble that every worker would have with the task


class GenerationActor:
    """Lives in a Ray process; holds one generator and no other state."""

    def __init__(self, settings: ScorerSettings) -> None:
        self._settings = settings
        self._generator: Served | None = None

    @ray.method
    def here(self) -> None:
        """Answers once the process has its place."""

    @ray.method
    def open(self, note: LoadingNote) -> None:
        """Load the model. What raises is trouble of the machine, or of the model that cannot be opened."""
        with note.kept():
            self._generator = make_generator(self._settings)

    @ray.method
    def perform(self, task: ServingTask) -> ServingOutcome:
        """Do one task; what raises is trouble of the machine."""
        assert self._generator is not None, "the pool opens an actor before it sends tasks"
        try:
            return ServingOutcome(task_key=task.key, answer=perform(self._generator, task), error=None)
        except _TASK_ERRORS as error:
            return ServingOutcome(task_key=task.key, answer=None, error=str(error))


class _Place:
    """Where an actor is, or will be: nobody knows when the cluster has room for it."""

    def __init__(self, start: Callable[[], ActorProxy[GenerationActor]]) -> None:
        self.actor = start()
        self._here = self.actor.here.remote()
        self.note = LoadingNote()
        self.opening: ray.ObjectRef[None] | None = self.actor.open.remote(self.note)

    @property
    def is_placed(self) -> bool:
        return bool(ray.wait([self._here], timeout=0)[0])


class GenerationPool:
    """Generates and reads on `workers` Ray actors, each with its own model; a context manager.

    Every task gets exactly one outcome, or `run` raises. A worker that dies is replaced and its task given to another,
    which answers the same: generation is greedy. Outcomes come as they finish, in no order. One run at a time.

    Workers are used as they become ready: a cluster with room for fewer serves with those it has, and with more once it
    grows.
    """

    def __init__(self, settings: ScorerSettings, *, workers: int, start_timeout_seconds: float = 600.0) -> None:
        ensure_ray()
        self._workers = workers
        self._start_timeout_seconds = start_timeout_seconds
        self._gpus = gpu_share(settings, workers=workers, cluster_gpus=resources().all_of("GPU"))
        actor_class = ray.remote(num_cpus=1, num_gpus=self._gpus, max_restarts=0)(GenerationActor)
        self._start: Callable[[], ActorProxy[GenerationActor]] = lambda: actor_class.remote(settings)
        self._places: list[_Place] = []
        self._idle: deque[_Place] = deque()
        self._lost = 0
        self._began = time.monotonic()
        self._grow()

    def __enter__(self) -> GenerationPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all workers, whatever they do. May be called again."""
        for place in self._places:
            _kill(place.actor)
        self._places = []

    @property
    def is_ready(self) -> bool:
        """Whether a worker has its model loaded."""
        return any(place.opening is None for place in self._places)

    def room(self) -> Room:
        """What the workers need, and what the cluster has of it now."""
        placed = sum(place.is_placed for place in self._places)
        loaded = furthest([place.note for place in self._places if place.opening is not None])
        return resources().room(workers=self._workers, gpus_each=self._gpus, placed=placed, loaded=loaded)

    def run(
        self, tasks: Iterable[ServingTask], *, check: Callable[[], None] = lambda: None
    ) -> Generator[ServingOutcome, None, None]:
        """Do `tasks`, yielding outcomes as they finish; what `check` raises, asked twice a second, ends the run.

        Raises:
            WorkersError, EvaluationError, RopewalkError: the model cannot be opened where the workers run.
            ScorerUnavailable: after `start_timeout_seconds` the cluster is still too small for one worker.
            WorkerLost: workers died again and again, or no machine of the cluster is left.
        """
        waiting = iter(tasks)
        again: deque[ServingTask] = deque()
        running: dict[ray.ObjectRef[ServingOutcome], tuple[_Place, ServingTask]] = {}
        task: ServingTask | None = next(waiting, None)
        while task is not None or running or again:
            while self._idle and (again or task is not None):
                place = self._idle.popleft()
                if again:
                    given = again.popleft()
                else:
                    assert task is not None
                    given, task = task, next(waiting, None)
                running[place.actor.perform.remote(given)] = (place, given)
            check()
            for reference in self._wait(running):
                place, given = running.pop(reference)
                outcome = self._outcome(reference, place)
                if outcome is None:
                    again.append(given)
                else:
                    self._idle.append(place)
                    yield outcome

    def _wait(
        self, running: Mapping[ray.ObjectRef[ServingOutcome], tuple[_Place, ServingTask]]
    ) -> list[ray.ObjectRef[ServingOutcome]]:
        """Wait for the next thing to happen, at most a poll; the tasks that are done."""
        if len(self._places) < self._workers and time.monotonic() - self._grown > _GROW_SECONDS:
            self._grow()
        opening = {place.opening: place for place in self._places if place.opening is not None}
        done, _ = ray.wait([*running, *opening], num_returns=1, timeout=_POLL_SECONDS)
        for reference in done:
            if reference in opening:
                self._opened(reference, opening[reference])
        if not done and not is_any_machine_alive():
            raise WorkerLost("a Ray cluster must have a machine, but none of this one's is alive")
        waited = time.monotonic() - self._began
        if not self.is_ready and waited > self._start_timeout_seconds:
            check_holds_one(machines(), gpus_each=self._gpus, after_seconds=self._start_timeout_seconds)
        return [reference for reference in done if reference in running]

    def _grow(self) -> None:
        """Start the workers that the cluster has room for, and a few more."""
        self._grown = time.monotonic()
        count = min(self._workers, most_workers(machines(), gpus_each=self._gpus) + MOST_WAITING)
        self._places += [_Place(self._start) for _ in range(len(self._places), count)]

    def _opened(self, reference: ray.ObjectRef[None], place: _Place) -> None:
        try:
            ray.get(reference)
        except RayError as error:
            self._failed(place, error)
        else:
            place.opening = None
            self._idle.append(place)

    def _outcome(self, reference: ray.ObjectRef[ServingOutcome], place: _Place) -> ServingOutcome | None:
        """None when the worker is lost, and another in its place."""
        try:
            outcome = ray.get(reference)
        except RayError as error:  # it died, or Ray's memory monitor has killed it
            self._failed(place, error)
            return None
        self._lost = 0
        return outcome

    def _failed(self, place: _Place, error: RayError) -> None:
        """Raise what any other worker would say too; else let another take the place."""
        if isinstance(error, RayTaskError) and isinstance(error.cause, WorkersError | EvaluationError | RopewalkError):
            raise error.cause from None
        reason = one_line(error)
        self._lost += 1
        _log.warning("a generating worker is lost, number %d in a row: %s", self._lost, reason)
        if self._lost > _MAX_LOST:
            raise WorkerLost(
                f"workers must not be lost more than {_MAX_LOST} times in a row, but were; the last reason: {reason}"
            )
        _kill(place.actor)
        self._places[self._places.index(place)] = _Place(self._start)


def _kill(actor: ActorProxy[GenerationActor]) -> None:
    if ray.is_initialized():
        with suppress(ActorHandleNotFoundError):  # of a cluster that has died; this process has joined another since
            ray.kill(cast("ActorHandle[GenerationActor]", actor), no_restart=True)
