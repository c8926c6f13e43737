"""How far the demo is, a bar for each stage."""

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ropewalk.wire.jobs import JobResource


def bars(console: Console) -> Progress:
    """A line for each stage."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<11}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


class Stages:
    """One bar per stage, made when the stage begins and filled when the next one does."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def show(self, job: JobResource) -> None:
        """Bring the bar of the job's stage up to date."""
        progress = job.progress
        if not progress.stage or progress.fraction is None:
            return
        if progress.stage not in self._tasks:
            self.complete()
            self._tasks[progress.stage] = self._bars.add_task(progress.stage, total=1.0, note="")
        self._bars.update(self._tasks[progress.stage], completed=progress.fraction, note=_note(job))

    def complete(self) -> None:
        """Fill every bar."""
        for task in self._tasks.values():
            self._bars.update(task, completed=1.0)


def _note(job: JobResource) -> str:
    progress = job.progress
    if progress.stage == "searching" and progress.best_nll is not None:
        return (
            f"generation {progress.generation}, {progress.document_passes} document passes, "
            f"best {progress.best_nll:.4f} nats on search documents"
        )
    return progress.note
