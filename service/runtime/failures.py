"""What becomes of a job when what it stands on fails: another attempt after a while, and an end to that.

A failure of the infrastructure says nothing about the search. So it never ends one: the job is requeued with a growing
pause, any controller may try it, and after `attempts` failures without a single accepted score in between it is paused
with the last reason, for its user to resume. `docs/decisions/0004-a-lost-worker-pauses-a-search.md` says why.
"""

import random
from dataclasses import dataclass

from service.errors import FilesUnreachable, RunFailed, UnknownSpec
from storage.records import Condition
from workers.errors import WorkerLost


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How often and how soon a job is tried again."""

    attempts: int = 5
    first_pause_seconds: float = 5.0
    longest_pause_seconds: float = 300.0

    def pause_after(self, failures: int) -> float | None:
        """Seconds until the next attempt, somewhere in the upper half of a range that doubles; None: no more."""
        if failures >= self.attempts:
            return None
        longest = min(self.first_pause_seconds * 2 ** (failures - 1), self.longest_pause_seconds)
        return random.uniform(longest / 2, longest)


def is_infrastructure(error: Exception) -> bool:
    """Whether another attempt may go well although nobody changes the spec: processes died, a disk
    is full, a store of files is away, a controller of a newer version may know the spec."""
    if isinstance(error, RunFailed):
        return error.code in (WorkerLost.code, FilesUnreachable.code)
    return isinstance(error, WorkerLost | UnknownSpec | OSError | MemoryError)


def condition_of(error: Exception, *, failures: int, pause: float | None) -> Condition:
    """What the job shows after its `failures`-th failure in a row."""
    code = getattr(error, "code", None)
    reason = type(error).__name__ if code is None else "".join(word.capitalize() for word in code.split("_"))
    then = f"tried again in {pause:.0f} s" if pause is not None else "paused until it is resumed"
    message = f"failure {failures} in a row, {then}: {error}"
    return Condition(type="Progressing", status=False, reason=reason, message=message)
