"""Delivers what is due: in every process of the service, a few at a time, again and again with a growing pause.

A delivery is put off in the database before it is made. So a process that dies in the middle of one leaves it to be
made again, by anybody, under the same id: at least once, and in the order of events only as long as nothing fails.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from service.webhooks.addresses import Network
from service.webhooks.sending import send
from storage.deliveries import Due
from storage.errors import StorageError
from storage.postgres.database import Database
from storage.webhooks import Webhooks

AT_ONCE = 8
POLL_SECONDS = 1.0
CLAIM_SECONDS = 60.0  # after which a delivery whose process died is made again
KEPT_SECONDS = 30 * 86_400.0  # what was told stays listed
FORGET_EVERY_SECONDS = 3600.0
GONE = 410  # a receiver's "never again"

logger = logging.getLogger("ropewalk.webhooks")


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """How often and how soon a delivery is tried again: with these, for about a day and a half."""

    attempts: int = 12
    first_seconds: float = 10.0
    factor: float = 3.0
    longest_seconds: float = 6 * 3600.0

    def pause_after(self, attempts: int) -> float | None:
        """Seconds until the next attempt, somewhere in the upper half of a growing range; None: no more."""
        if attempts >= self.attempts:
            return None
        longest = min(self.first_seconds * self.factor ** (attempts - 1), self.longest_seconds)
        return random.uniform(longest / 2, longest)


class Deliverer:
    """Of one database. A context manager: threads of its own while it is open."""

    def __init__(
        self,
        database: Database,
        *,
        allowed: Sequence[Network] = (),
        backoff: Backoff | None = None,
        poll_seconds: float = POLL_SECONDS,
        claim_seconds: float = CLAIM_SECONDS,
    ) -> None:
        self._webhooks = Webhooks(database)
        self._allowed = allowed
        self._backoff = backoff or Backoff()
        self._poll = poll_seconds
        self._claim = claim_seconds
        self._closed = threading.Event()
        self._forgot_at = float("-inf")
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook")
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
        self._pool.shutdown()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                made = self.deliver_due()
            except StorageError:  # the database's own log line tells
                made = 0
            except Exception:
                logger.exception("webhooks go on in %.0f s", self._poll)
                made = 0
            if made == 0:
                self._closed.wait(self._poll)

    def deliver_due(self) -> int:
        """Make what is due now; how many deliveries that was. Raises: StorageError."""
        if time.monotonic() - self._forgot_at >= FORGET_EVERY_SECONDS:
            self._webhooks.forget(seconds=KEPT_SECONDS)
            self._forgot_at = time.monotonic()
        claimed = self._webhooks.claim(limit=AT_ONCE, seconds=self._claim)
        list(self._pool.map(self._deliver, claimed))
        return len(claimed)

    def _deliver(self, due: Due) -> None:
        answer = send(due, allowed=self._allowed)
        attempts = due.delivery.attempts
        pause = None if answer.is_success or answer.status == GONE else self._backoff.pause_after(attempts)
        self._webhooks.settle(
            due, delivered=answer.is_success, status=answer.status, reason=answer.reason, retry_in=pause
        )
        if answer.status == GONE:
            self._webhooks.end(due.delivery.webhook_id, None, actor="webhooks")
        if not answer.is_success:
            then = "given up" if pause is None else f"tried again in {pause:.0f} s"
            logger.info(
                "webhook %s of %s, attempt %d: %s: %s",
                due.delivery.webhook_id,
                due.delivery.job_id,
                attempts,
                answer.reason,
                then,
            )
