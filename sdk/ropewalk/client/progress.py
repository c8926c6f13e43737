"""What a waiting client shows: one line that is redrawn in a terminal or a notebook, few plain lines in a log."""

import math
import shutil
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import IO, Self

from ropewalk.wire.jobs import JobResource, ProgressResource
from ropewalk.wire.kinds import WAITING_FOR_OWNER, JobState

POLL_SECONDS = 0.5
QUIET_SECONDS = 30.0  # a log that says nothing for longer looks like a program that hangs
_ENDED = frozenset(state.value for state in JobState if state.is_final)
_AWAY = "waiting for the server"
_BAR_WIDTH = 24
_NOTEBOOK_COLUMNS = 140


def large(number: float) -> str:
    """Three digits and k, M, G, T or P: numbers of tokens and of operations are read, not compared digit by digit."""
    number = float(f"{number:.3g}")
    power = min(max(int(math.log10(number) // 3), 0), 5) if number >= 1 else 0
    return f"{number / 1000**power:.3g}{['', 'k', 'M', 'G', 'T', 'P'][power]}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, two digits of what matters."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.3g} h" if seconds < 999 * 3600 else f"{seconds / 3600:,.0f} h"


def done(job: JobResource) -> float:
    """The part of the work that is done, from 0 to 1."""
    return 1.0 if job.is_final else job.progress.fraction or 0.0


def passes(progress: ProgressResource) -> str:
    """Document passes so far and their tokens."""
    text = ""
    if progress.total_document_passes:
        text = f"{progress.document_passes}/{progress.total_document_passes} passes"
    elif progress.document_passes:
        text = f"{progress.document_passes} passes"
    if progress.tokens:
        text += f"{', ' if text else ''}{large(progress.tokens)} tokens"
    return text


def best(progress: ProgressResource) -> str:
    """The best score so far."""
    return "" if progress.best_nll is None else f"best NLL {progress.best_nll:.4f}"


def time_left(progress: ProgressResource, kind: str) -> str:
    """Of the stage of a job of this kind. The total of a search is a bound: a race may end any time. What validation
    takes, on full documents, nobody knows before it: it may be longer than all before."""
    if progress.seconds_left is None or (progress.fraction or 0.0) >= 1.0:
        return ""
    until = "to validation" if progress.stage == "searching" else "left"
    return f"{'at most ' if kind == 'search' else ''}{duration(progress.seconds_left)} {until}"


def waits_for(job: JobResource) -> str:
    """Why the job does not go on now, as its controller says; empty where it goes on, and once it has ended."""
    if job.is_final:
        return ""
    resting = next((one for one in job.conditions if one.type == "Progressing" and not one.status), None)
    if resting is not None and (job.state == "queued" or resting.reason == WAITING_FOR_OWNER):
        return resting.message
    if job.state == "queued":
        return "waits for a controller that has room for one more job"
    return next((one.message for one in job.conditions if one.type == "WorkersReady" and not one.status), "")


class Deadline:
    """When waiting ends."""

    def __init__(self, job_id: str, timeout_seconds: float | None) -> None:
        self._job_id, self._timeout = job_id, timeout_seconds
        self._end = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds

    def check(self) -> None:
        """Raise TimeoutError when it has passed."""
        if time.monotonic() >= self._end:
            raise TimeoutError(f"{self._job_id} must end within {self._timeout:g} s, but goes on")


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """What is told of some work at one time: of a job, or of a search in this process."""

    kind: str
    state: str
    progress: ProgressResource
    done: float
    waits: str = ""
    reasons: tuple[str, ...] = ()
    """Why it waits, in words that do not change with every second of waiting."""

    @classmethod
    def of(cls, job: JobResource) -> Self:
        """A job's."""
        return cls(
            kind=job.kind,
            state=job.state.value,
            progress=job.progress,
            done=done(job),
            waits=waits_for(job),
            reasons=tuple(one.reason for one in job.conditions if not one.status),
        )

    @property
    def changes(self) -> tuple[object, ...]:
        """What is worth a line of its own when it is another."""
        return self.state, self.progress.stage, self.reasons, self.done >= 1.0

    @property
    def measured(self) -> tuple[str, ...]:
        """Passes, the best score and the time left, as far as they are known, and why it waits."""
        return passes(self.progress), best(self.progress), time_left(self.progress, self.kind), self.waits


class ProgressLines:
    """One job's progress in a log: a line when its state, its stage or why it waits changes, one at its end, and
    else one every 30 seconds. A line is never wrapped. `name`: what it begins with after the time, a job's id."""

    def __init__(self, name: str, stream: IO[str]) -> None:
        self._name, self._stream = name, stream
        self._told: tuple[object, ...] = ()
        self._told_at = -math.inf

    def show(self, moment: Moment | None) -> None:
        """Write a line if it is time for one; None while the server is away."""
        now = ("away",) if moment is None else moment.changes
        if now == self._told and time.monotonic() - self._told_at < QUIET_SECONDS:
            return
        self._told, self._told_at = now, time.monotonic()
        when = datetime.now().astimezone().strftime("%H:%M:%S")
        self._stream.write(f"{when} {_joined(self._name, *_told(moment))}\n")
        self._stream.flush()


def _told(moment: Moment | None) -> tuple[str, ...]:
    if moment is None:
        return (_AWAY,)
    stage = moment.progress.stage or ""
    return (
        moment.state,
        "" if stage == moment.state or moment.state in _ENDED else stage,
        f"{100 * moment.done:.0f} %",
        *moment.measured,
    )


def _joined(*parts: str) -> str:
    return "  ".join(part for part in parts if part)


class ProgressBar:
    """One job's progress on a stream, standard error or in a notebook standard output; a context manager.

    `name`: what the line begins with, a job's id.
    """

    def __init__(self, name: str, *, is_shown: bool = True, stream: IO[str] | None = None) -> None:
        in_notebook = _in_notebook()
        self._stream = stream or (sys.stdout if in_notebook else sys.stderr)
        self._is_shown = is_shown
        self._is_redrawn = in_notebook or self._stream.isatty()
        self._columns = _NOTEBOOK_COLUMNS if in_notebook else None
        self._name = name
        self._drawn = ""
        self._lines = ProgressLines(name, self._stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._drawn:
            self._write("\n")

    def show(self, job: JobResource | None) -> None:
        """Bring the line up to date; `job` is None while the server is away."""
        self.show_moment(None if job is None else Moment.of(job))

    def show_moment(self, moment: Moment | None) -> None:
        """Bring the line up to date, or a log."""
        if not self._is_shown:
            return
        if self._is_redrawn:
            self._redraw(_joined(self._name, *((_AWAY,) if moment is None else _bar(moment))))
        else:
            self._lines.show(moment)

    def _redraw(self, line: str) -> None:
        """Over the line before, and never over the edge, where a terminal would begin another one."""
        line = line[: (self._columns or shutil.get_terminal_size().columns) - 1]
        if line != self._drawn:
            self._write("\r" + line.ljust(len(self._drawn)))
            self._drawn = line

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _bar(moment: Moment) -> tuple[str, ...]:
    filled = round(_BAR_WIDTH * moment.done)
    bar = f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {100 * moment.done:3.0f} %"
    return f"{moment.state:10}", bar, *moment.measured


def _in_notebook() -> bool:
    """Whether this is Jupyter's kernel, whose output cells know a carriage return as terminals do."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")
