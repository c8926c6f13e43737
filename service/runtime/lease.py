"""Keeping a job: one thread renews the lease and notices what the user requested meanwhile."""

import threading
import time
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Self

from ropewalk.wire.kinds import JobRequest
from service.errors import RunStopped
from service.runtime.crash_points import Reach, never
from storage.errors import LeaseLost, StorageError
from storage.jobs.store import JobStore
from storage.records import Job, Lease

RENEWALS_PER_LEASE = 5  # so that four renewals in a row may fail before the lease is lost
LONGEST_LEASE_SECONDS = 60.0  # for which a job may wait when a busy machine dies


class LeaseKeeper:
    """Renews `lease` until closed. Thread-safe; `check()` is the run's only question to it.

    The database decides: a renewal that it refuses ends the run, whatever this machine's clock says. A database that
    cannot be reached is tried again; if the lease expires meanwhile, another controller takes over and the next
    renewal is refused. Where renewals come late, because the machine is busy, leases are longer.
    """

    def __init__(
        self,
        jobs: JobStore,
        job: Job,
        lease: Lease,
        *,
        lease_seconds: float,
        stopping: threading.Event | None = None,
        reach: Reach = never,
    ) -> None:
        self.lease = lease
        self._jobs = jobs
        self._lease_seconds = lease_seconds
        self._controller_stopping = stopping or threading.Event()
        self._reach = reach
        self._renewed_at = time.monotonic()  # the claim was just now
        self._accepted = False
        self._was_away = False
        self._closed = threading.Event()
        self._lost: LeaseLost | None = None
        self._request: JobRequest = job.request  # a controller before this one may have died before it obeyed
        renew = partial(copy_context().run, self._renew_forever)  # log lines about this job say so there, too
        self._thread = threading.Thread(target=renew, name=f"lease-{lease.job_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()

    @property
    def request(self) -> JobRequest:
        """What the user asked for last: none, pause or cancel."""
        return self._request

    @property
    def has_progressed(self) -> bool:
        """Whether a document score was accepted under this lease."""
        return self._accepted

    def accepted(self, request: JobRequest) -> None:
        """A score was accepted, and the database said what the user asks for: no need to wait for the next renewal."""
        self._accepted = True
        self._request = request

    @property
    def should_stop(self) -> bool:
        """Whether the run should end early: lost lease, pause, cancellation or a controller that shuts down."""
        return self._lost is not None or self._request != "none" or self._controller_stopping.is_set()

    def check(self) -> None:
        """Return when the run may go on.

        Raises:
            LeaseLost: another controller owns the job now; nothing may be written any more.
            RunStopped: a pause or a cancellation was requested, or the controller shuts down.
        """
        if self._lost is not None:
            raise self._lost
        if self._request != "none":
            raise RunStopped(f"{self._request} was requested")
        if self._controller_stopping.is_set():
            raise RunStopped("the controller is shutting down")

    def renew_now(self) -> None:
        """One renewal; remembers what it learnt."""
        self._reach("before renewal")
        seconds = self._next_lease_seconds()
        try:
            job = self._jobs.renew(self.lease, seconds)
            self._renewed_at = time.monotonic()
            if self._was_away:
                self._jobs.tell_of_outage(self.lease, since_seconds=self._lease_seconds)
                self._was_away = False
        except LeaseLost as error:
            self._lost = error
        except StorageError:
            self._was_away = True  # the next renewal tells
        else:
            self._request = job.request
            self._reach("after renewal")

    def _next_lease_seconds(self) -> float:
        """As many periods as a lease has by right, of the length that the last one really had."""
        if self._was_away:
            return self._lease_seconds  # it was not this machine that was late
        wanted = RENEWALS_PER_LEASE * (time.monotonic() - self._renewed_at)
        return max(self._lease_seconds, min(wanted, LONGEST_LEASE_SECONDS))

    def _renew_forever(self) -> None:
        while self._lost is None and not self._closed.wait(self._lease_seconds / RENEWALS_PER_LEASE):
            self.renew_now()
