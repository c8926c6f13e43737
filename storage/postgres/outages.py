"""When the database could not be used, and for how long: one line in the log as an outage begins, one when it is over.

A failure is often seen by several threads again and again, and reads may succeed between writes that fail (a server
that takes no writes any more). So failures that follow each other closely are one outage, and a blink is none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from storage.errors import DatabaseUnreachable

TOLD_AFTER = 2.0  # seconds of failing, less than `retries.PATIENCE`: what is shorter is only a blink
QUIET = 5.0  # seconds without a failure, after which an outage is over

logger = logging.getLogger("ropewalk.database")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outage:
    """A time in which the database could not be used, by `time.monotonic`; `ended` is None while it lasts."""

    reason: str
    began: float
    ended: float | None

    def seconds(self, now: float) -> float:
        """How long it lasted, or has lasted until `now`."""
        return (now if self.ended is None else self.ended) - self.began


class Outages:
    """What one process saw of one database. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: Outage | None = None
        self._failed_at = 0.0
        self._told = False
        self._last: Outage | None = None

    def failed(self, error: DatabaseUnreachable) -> None:
        """The database could not be used just now."""
        with self._lock:
            now = self._clock()
            self._close(now)
            began = now if self._open is None else self._open.began
            self._open = Outage(reason=str(error), began=began, ended=None)
            self._failed_at = now
            if not self._told and now - began >= TOLD_AFTER:
                self._told = True
                logger.warning("the database is away, and jobs wait for it: %s", error)

    def worked(self) -> None:
        """The database did what it was asked."""
        if self._open is None:
            return
        with self._lock:
            now = self._clock()
            if self._open is not None and self._open.ended is None:
                self._open = Outage(reason=self._open.reason, began=self._open.began, ended=now)
            self._close(now)

    def around(self, seconds_ago: float, *, grace: float) -> Outage | None:
        """The last outage, if a moment `seconds_ago` lies in it or up to `grace` seconds behind it."""
        with self._lock:
            found = self._open if self._told else self._last
            if found is None:
                return None
            moment = self._clock() - seconds_ago
            end = self._clock() if found.ended is None else found.ended
            return found if found.began <= moment <= end + grace else None

    def _close(self, now: float) -> None:
        """Keep what is over; what never was more than a blink is forgotten."""
        if self._open is None or self._open.ended is None or now - self._failed_at < QUIET:
            return
        if self._told:
            self._last = self._open
            logger.info("the database is back after %.0f s", self._open.seconds(now))
        self._open, self._told = None, False
