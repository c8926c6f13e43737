"""Places where a test may end the controller's process, as a power cut would: without a word to anybody.

Named points are passed before and after everything that a controller writes. A process that was not told to die at one
passes them by calling a function that does nothing.
"""

import os
import threading
from collections.abc import Callable

# "score" is a worker's pass over a document, "report" the statement that keeps the score, shows it in the study and
# caches it, "tell" the end of a trial.
POINTS = tuple(
    f"{side} {what}"
    for what in ("claim", "score", "report", "tell", "hand-off", "renewal")
    for side in ("before", "after")
)
EXIT_CODE = 137  # as of a process that was killed

Reach = Callable[[str], None]
"""Is called with the name of each point that is reached."""


def never(point: str) -> None:
    """Go on."""


def crash_at(spec: str) -> Reach:
    """End the process at a point: "after score", or "after score:7" the seventh time that it is reached.

    Raises:
        ValueError: no such point, or no positive number.
    """
    name, _, times = spec.partition(":")
    if name not in POINTS or not (times or "1").isdecimal() or int(times or "1") < 1:
        raise ValueError(
            f"a crash point must be one of {', '.join(POINTS)}, and :N for the N-th time, but got {spec!r}"
        )
    left = int(times or "1")
    lock = threading.Lock()

    def reach(point: str) -> None:
        nonlocal left
        if point == name:
            with lock:
                left -= 1
                if left == 0:
                    os._exit(EXIT_CODE)

    return reach
