"""Why a job's workers are not at work yet, as its condition tells it while it waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from ropewalk.wire.kinds import JOB_KINDS
from service.runtime.job import Runtime
from workers.pool.room import Room

LOOK_SECONDS = 2.0  # between two looks at the cluster
LIMITED = "workers.limited"
_EVENTS = 100  # of a job, among which it is looked for: it comes early
_AT_ONCE = 50  # jobs of a kind among which those at work are looked for, the newest


class StartWatch:
    """Tells, while no worker is ready, whether the job waits for room, for its model or for its first step: `check` is
    to be called often.

    What `check` raises is what the lease keeper raises.
    """

    def __init__(
        self, runtime: Runtime, room: Callable[[], Room | None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`room`: of the workers, as of now; None where it is not known."""
        self._runtime = runtime
        self._room = room
        self._clock = clock
        self._began = self._looked = clock()

    def check(self) -> None:
        """See the class."""
        self._runtime.keeper.check()
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if (room := self._room()) is not None:
            self._runtime.set_condition("WorkersReady", False, *self._told(room, now - self._began))

    def _told(self, room: Room, seconds: float) -> tuple[str, str]:
        if room.placed:
            return "LoadingModel", loading(room, seconds)
        if room.is_free:
            return "Starting", f"the workers' processes start, {seconds:.0f} s so far"
        return "WaitingForRoom", f"{waiting_for(room)}{self._behind()}"

    def _behind(self) -> str:
        """The jobs that have workers now."""
        jobs = (job for kind in JOB_KINDS for job in self._runtime.jobs.list(kind, limit=_AT_ONCE).items)
        others = [job.id for job in jobs if job.lease_owner is not None and job.id != self._runtime.job.id]
        return f"; at work: {', '.join(others)}" if others else ""


def loading(room: Room, seconds: float) -> str:
    """How far the model is, and since when the job waits."""
    who, since = f"{room.placed} of {room.workers} workers", f"{seconds:.0f} s so far"
    if room.loaded is None:
        return f"{who} {'read the text and ' if room.together else ''}load the model, {since}"
    if room.loaded < 1.0:
        return f"{who} load the model, {room.loaded:.0%} of its tensors in {since}"
    first = "step" if room.together else "pass"
    return f"{who} load the model: its tensors are read, the first {first} is under way, {since}"


def waiting_for(room: Room) -> str:
    """What a worker needs that is not free, or all of them do, with what the cluster has."""
    needs, has = "1 CPU", f"{room.free_cpus:g} of {room.cpus:g} CPUs"
    if room.gpus_each:
        needs, has = f"1 CPU and {room.gpus_each:g} GPUs", f"{has} and {room.free_gpus:g} of {room.gpus:g} GPUs"
    who = "a worker needs" if not room.together or room.workers == 1 else f"each of {room.workers} workers needs"
    begin = ", all before any begins" if room.together and room.workers > 1 else ""
    return f"{who} {needs} of one machine{begin}, and of the cluster's {has} are free"


def tell_limits(runtime: Runtime, room: Room | None) -> None:
    """An event, once for a job, where the cluster cannot hold all the workers that were asked for."""
    if (more := too_many(room)) is None:
        return
    told = runtime.jobs.events(runtime.job.id, limit=_EVENTS)
    if all(event.type != LIMITED for event in told):
        runtime.event(LIMITED, text=more)


def too_many(room: Room | None) -> str | None:
    """What is told of more workers than the cluster has room for; None where they fit."""
    if room is None or room.workers <= room.most:
        return None
    has = f"{room.cpus:g} CPUs" + (f" and {room.gpus:g} GPUs" if room.gpus_each else "")
    return (
        f"workers={room.workers} were asked for, but the cluster has {has}, room for {room.most}: the job goes on with "
        "those that it gets"
    )
