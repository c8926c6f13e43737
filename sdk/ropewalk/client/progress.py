"""What a waiting client shows: one line that is redrawn in a terminal or a notebook, few plain lines in a log."""

import math
import shutil
import sys
import time
from types import TracebackType
from typing import Self, TextIO

from ropewalk.wire.jobs import JobResource

POLL_SECONDS = 0.5
_LOG_STEP = 0.1  # of the work: a log gets a line for each stage and each of these, however long the job takes
_BAR_WIDTH = 24
_NOTEBOOK_COLUMNS = 100


def large(number: float) -> str:
    """Three digits and k, M, G, T or P: numbers of tokens and of operations are read, not compared digit by digit."""
    number = float(f"{number:.3g}")
    power = min(max(int(math.log10(number) // 3), 0), 5) if number >= 1 else 0
    return f"{number / 1000**power:.3g}{['', 'k', 'M', 'G', 'T', 'P'][power]}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, two digits of what matters."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.3g} h"


def done(job: JobResource) -> float:
    """The part of the work that is done, from 0 to 1."""
    return 1.0 if job.is_final else job.progress.fraction or 0.0


def passes(job: JobResource) -> str:
    """Document passes so far and their tokens."""
    progress = job.progress
    text = f"{progress.document_passes}" if progress.document_passes or not progress.tokens else ""
    if progress.total_document_passes:
        text += f"/{progress.total_document_passes} passes"
    if progress.tokens:
        text += f"{', ' if text else ''}{large(progress.tokens)} tokens"
    return text


def best(job: JobResource) -> str:
    """The best score so far."""
    return "" if job.progress.best_nll is None else f"best NLL {job.progress.best_nll:.4f}"


def time_left(job: JobResource) -> str:
    """Of the stage. The total of a search is a bound: a race may end any time."""
    left = job.progress.seconds_left
    if left is None:
        return ""
    return f"{'at most ' if job.kind == 'search' else ''}{duration(left)} left"


class Deadline:
    """When waiting ends."""

    def __init__(self, job_id: str, timeout_seconds: float | None) -> None:
        self._job_id, self._timeout = job_id, timeout_seconds
        self._end = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds

    def check(self) -> None:
        """Raise TimeoutError when it has passed."""
        if time.monotonic() >= self._end:
            raise TimeoutError(f"{self._job_id} must end within {self._timeout:g} s, but goes on")


class ProgressBar:
    """One job's progress on a stream, standard error or in a notebook standard output; a context manager."""

    def __init__(self, job_id: str, *, is_shown: bool = True, stream: TextIO | None = None) -> None:
        in_notebook = _in_notebook()
        self._stream = stream or (sys.stdout if in_notebook else sys.stderr)
        self._is_shown = is_shown
        self._is_redrawn = in_notebook or self._stream.isatty()
        self._columns = _NOTEBOOK_COLUMNS if in_notebook else None
        self._job_id = job_id
        self._drawn = ""
        self._logged: tuple[str, int] = ("", -1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._drawn:
            self._write("\n")

    def show(self, job: JobResource | None) -> None:
        """Bring the line up to date; `job` is None while the server is away."""
        if not self._is_shown:
            return
        if self._is_redrawn:
            self._redraw(self._line(job))
        elif job is not None:
            step = int(done(job) / _LOG_STEP)
            if job.state.value != self._logged[0] or step > self._logged[1]:
                self._logged = (job.state.value, step)
                self._write(f"{self._line(job)}\n")

    def _line(self, job: JobResource | None) -> str:
        if job is None:
            return f"{self._job_id}  waiting for the server"
        filled = round(_BAR_WIDTH * done(job))
        bar = f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {100 * done(job):3.0f} %"
        return "  ".join(
            part for part in (job.id, f"{job.state.value:10}", bar, passes(job), best(job), time_left(job)) if part
        )

    def _redraw(self, line: str) -> None:
        """Over the line before, and never over the edge, where a terminal would begin another one."""
        line = line[: (self._columns or shutil.get_terminal_size().columns) - 1]
        if line != self._drawn:
            self._write("\r" + line.ljust(len(self._drawn)))
            self._drawn = line

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _in_notebook() -> bool:
    """Whether this is Jupyter's kernel, whose output cells know a carriage return as terminals do."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")
