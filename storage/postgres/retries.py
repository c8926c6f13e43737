"""The one place where a database that fails for a moment is asked again.

Stores put :func:`retried` on the methods that are one transaction each. What takes longer than `PATIENCE` is an outage:
it goes to the caller as DatabaseUnreachable, who answers 503, or drops the run and claims the job again later.
"""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from storage.errors import DatabaseUnreachable

PATIENCE = 3.0  # seconds from the first attempt on; a lease of 10 s is renewed before and after
FIRST_PAUSE = 0.02  # seconds; doubled from attempt to attempt
LONGEST_PAUSE = 1.0

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def retried(*, repeatable: bool = True) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a method that raises DatabaseUnreachable: connections that break, deadlocks, a server that restarts.

    Args:
        repeatable: doing it twice is doing it once. Otherwise it is not tried again after a commit that nobody
            confirmed: what was done may have been done.
    """

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(method)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            deadline = time.monotonic() + PATIENCE
            for pause in pauses():
                try:
                    return method(*args, **kwargs)
                except DatabaseUnreachable as error:
                    if time.monotonic() + pause > deadline or (error.outcome_unknown and not repeatable):
                        raise
                    logger.debug("%s is tried again in %.2f s: %s", method.__qualname__, pause, error)
                    time.sleep(pause)
            raise AssertionError("pauses never end")

        return call

    return decorate


def pauses(first: float = FIRST_PAUSE, longest: float = LONGEST_PAUSE) -> Iterator[float]:
    """Seconds between attempts, without end: doubled up to `longest`, each somewhere in the upper half of its range, so
    that those who failed together do not come back together."""
    pause = first
    while True:
        yield random.uniform(pause / 2, pause)
        pause = min(2 * pause, longest)
