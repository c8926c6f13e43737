"""Wake-ups over LISTEN/NOTIFY. They only make waiting shorter: whoever waits reads the rows, which are the truth."""

from __future__ import annotations

import logging
import threading

import psycopg
import sqlalchemy as sa

from storage.schema_names import EVENTS_CHANNEL

logger = logging.getLogger(__name__)

LISTEN_SLICE = 0.5  # seconds between looks at whether to stop
RECONNECT_PAUSE = 5.0  # seconds


class Notifications:
    """Tells waiting threads that a job has new events. One connection, made at the first wait; thread-safe.

    A lost connection is made again; meanwhile waits just last their full time.
    """

    def __init__(self, engine: sa.Engine) -> None:
        # Not the URL itself: libpq reads spaces in it differently.
        self._connect_arguments = {"connect_timeout": 5, **engine.dialect.create_connect_args(engine.url)[1]}
        self._news = threading.Condition()
        self._counts: dict[str, int] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def count(self, job_id: str) -> int:
        """How many wake-ups the job had so far: take it before reading the rows, and give it to `wait`."""
        with self._news:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._listen_forever, name="ropewalk-listen", daemon=True)
                self._thread.start()
            return self._counts.get(job_id, 0)

    def wait(self, job_id: str, seen: int, timeout_seconds: float) -> None:
        """Return when the job had a wake-up after `seen`, or after the time."""
        with self._news:
            self._news.wait_for(lambda: self._counts.get(job_id, 0) != seen, timeout_seconds)

    def close(self) -> None:
        """End the connection."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=5 * LISTEN_SLICE)

    def _listen_forever(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen()
            except psycopg.Error as error:
                logger.warning(
                    "events are polled until the database can be listened to again: %s", type(error).__name__
                )
                self._closing.wait(RECONNECT_PAUSE)

    def _listen(self) -> None:
        with psycopg.connect(**self._connect_arguments, autocommit=True) as connection:
            connection.execute(f"LISTEN {EVENTS_CHANNEL}")
            while not self._closing.is_set():
                for notification in connection.notifies(timeout=LISTEN_SLICE):
                    self._wake(notification.payload)
                    if self._closing.is_set():
                        return

    def _wake(self, job_id: str) -> None:
        with self._news:
            self._counts[job_id] = self._counts.get(job_id, 0) + 1
            self._news.notify_all()
