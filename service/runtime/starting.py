"""Why a job's workers are not at work yet, as its condition tells it while it waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from ropewalk.wire.kinds import JOB_KINDS
from service.runtime.job import Pool, Runtime
from workers.pool.room import Room

LOOK_SECONDS = 2.0  # between two looks at the cluster
_AT_ONCE = 50  # jobs of a kind among which those at work are looked for, the newest


class StartWatch:
    """Tells, while no worker is ready, whether the job waits for room or for its model: `check` is to be called often.

    What `check` raises is what the lease keeper raises.
    """

    def __init__(self, runtime: Runtime, pool: Pool, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        self._pool = pool
        self._clock = clock
        self._began = self._looked = clock()

    def check(self) -> None:
        """See the class."""
        self._runtime.keeper.check()
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if (room := self._pool.room()) is not None:
            self._runtime.set_condition("WorkersReady", False, *self._told(room, now - self._began))

    def _told(self, room: Room, seconds: float) -> tuple[str, str]:
        if room.placed:
            return "LoadingModel", f"{room.placed} of {room.workers} workers load the model, {seconds:.0f} s so far"
        return "WaitingForRoom", f"{waiting_for(room)}{self._behind()}"

    def _behind(self) -> str:
        """The jobs that have workers now."""
        jobs = (job for kind in JOB_KINDS for job in self._runtime.jobs.list(kind, limit=_AT_ONCE).items)
        others = [job.id for job in jobs if job.lease_owner is not None and job.id != self._runtime.job.id]
        return f"; at work: {', '.join(others)}" if others else ""


def waiting_for(room: Room) -> str:
    """What a worker needs that is not free, with what the cluster has."""
    needs, has = "1 CPU", f"{room.free_cpus:g} of {room.cpus:g} CPUs"
    if room.gpus_each:
        needs, has = f"1 CPU and {room.gpus_each:g} GPUs", f"{has} and {room.free_gpus:g} of {room.gpus:g} GPUs"
    return f"a worker needs {needs} of one machine, and of the cluster's {has} are free"


def too_many(room: Room | None) -> str | None:
    """What is told of more workers than the cluster has room for; None where they fit."""
    if room is None or room.workers <= room.most:
        return None
    has = f"{room.cpus:g} CPUs" + (f" and {room.gpus:g} GPUs" if room.gpus_each else "")
    return (
        f"workers={room.workers} were asked for, but the cluster has {has}, room for {room.most}: the job goes on with "
        "those that it gets"
    )
