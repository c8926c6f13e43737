"""A job in the terminal: live bars while it runs, a summary when it has ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from api.console import err, note, out, print_hanging, print_json, print_line, print_table
from ropewalk.client.errors import ApiError, ServerUnreachable
from ropewalk.client.progress import Moment, ProgressLines, best, done, large, passes, time_left, waits_for
from ropewalk.client.sync import Client
from ropewalk.wire.evaluation import EvaluationReport
from ropewalk.wire.jobs import EventResource, JobResource
from ropewalk.wire.kinds import JobState
from ropewalk.wire.reports import FinetuneReport, Report, SearchReport

_SCORES = ("nll", "perplexity", "exact_match", "documents")
GIVE_UP_AFTER_SECONDS = 120.0  # the server may be restarting; the job goes on from the database


def watch(client: Client, job_id: str, *, as_json: bool) -> JobResource:
    """Follow a job until it has ended; with `as_json` its events are printed, a line each."""
    with _telling_how_to_come_back(job_id):
        if as_json:
            for event in client.watch(job_id):
                print_json(event)
            return client.get(job_id)
        return _view(client, job_id).run()


def follow(client: Client, job_id: str, *, as_json: bool) -> JobResource:
    """Wait for a job's end; live bars unless only JSON is wanted."""
    with _telling_how_to_come_back(job_id):
        return client.wait(job_id) if as_json else _view(client, job_id).run()


def after_submission(client: Client, job: JobResource, *, wait: bool, as_json: bool) -> int:
    """Print the job and its warnings, or follow it to its end; the exit code."""
    for warning in job.warnings:
        note(warning)
    if not as_json:
        print_line(job.id)
    elif not wait:
        print_json(job)
    return finish(follow(client, job.id, as_json=as_json), as_json=as_json) if wait else 0


def finish(job: JobResource, *, as_json: bool) -> int:
    """Tell how a job ended; 0 only if it succeeded."""
    if as_json:
        print_json(job)
    else:
        print_result(job)
    return 0 if job.state is JobState.succeeded else 1


@contextmanager
def _telling_how_to_come_back(job_id: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        note(f"{job_id} goes on; ropewalk watch {job_id} follows it again, ropewalk cancel {job_id} ends it")
        raise


def _view(client: Client, job_id: str) -> _Watch:
    console = err()
    return (_Bars if console.is_terminal else _Lines)(client, job_id, console)


class _Watch(ABC):
    """Shows a job's events and its progress until it has ended."""

    def __init__(self, client: Client, job_id: str, console: Console) -> None:
        self._client = client
        self._job_id = job_id
        self._after = 0
        self._console = console

    @abstractmethod
    def run(self) -> JobResource:
        """Poll until the end; a server that has answered and is away for a while is waited for."""

    @abstractmethod
    def _show(self, job: JobResource | None) -> None:
        """Bring what is shown up to date; None while the server is away."""

    def _poll(self) -> JobResource:
        for job in self._client.snapshots(self._job_id, give_up_after_seconds=GIVE_UP_AFTER_SECONDS):
            self._show(job)
            if job is None:
                continue
            if job.is_final:
                for event in self._client.watch(
                    self._job_id, after=self._after, give_up_after_seconds=GIVE_UP_AFTER_SECONDS
                ):
                    self._print(event)
                return job
            with suppress(ServerUnreachable, ApiError):  # the next snapshot finds that out
                self._show_events()
        raise AssertionError("snapshots end with a job that has ended")

    def _show_events(self) -> None:
        page = self._client.event_list(self._job_id, after=self._after)
        for event in page.items:
            self._print(event)
        self._after = page.next_after

    def _print(self, event: EventResource) -> None:
        self._console.print(event_line(event), highlight=False, soft_wrap=not self._console.is_terminal)


class _Lines(_Watch):
    """In a log."""

    def __init__(self, client: Client, job_id: str, console: Console) -> None:
        super().__init__(client, job_id, console)
        self._lines = ProgressLines(job_id, console.file)
        self._told: set[tuple[object, object]] = set()

    def run(self) -> JobResource:
        """See :meth:`_Watch.run`."""
        return self._poll()

    def _show(self, job: JobResource | None) -> None:
        if job is not None:
            waits = waits_for(job)
            self._told = {(one.type, one.reason) for one in job.conditions if one.message == waits}
        self._lines.show(None if job is None else Moment.of(job))

    def _print(self, event: EventResource) -> None:
        """Nothing where the line before it has said why the job waits."""
        if (event.data.get("condition"), event.data.get("reason")) not in self._told:
            super()._print(event)


_ALMOST = 0.999  # a stage that is done is not the job: at 1 the clock beside a bar stops for good


class _Bars(_Watch):
    """In a terminal: a bar below the events."""

    def __init__(self, client: Client, job_id: str, console: Console) -> None:
        super().__init__(client, job_id, console)
        self._bars = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[passes]}"),
            TextColumn("{task.fields[best]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )

        self._task = self._bars.add_task(job_id, total=1.0, passes="", best="", left="")

    def run(self) -> JobResource:
        """See :meth:`_Watch.run`."""
        with self._bars:
            return self._poll()

    def _show(self, job: JobResource | None) -> None:
        if job is None:
            self._bars.update(self._task, description="waiting for the server")
            return
        self._bars.update(
            self._task,
            description=job.state.value,
            completed=min(done(job), 1.0 if job.is_final else _ALMOST),
            passes=passes(job.progress),
            best=best(job.progress),
            left=waits_for(job) or time_left(job.progress, job.kind),
        )


def event_line(event: EventResource) -> str:
    """One event for people."""
    when = event.created_at.astimezone().strftime("%H:%M:%S")
    details = "  ".join(f"{name}={_short(value)}" for name, value in event.data.items() if value is not None)
    return f"[dim]{when}[/dim] {escape(event.type)}  {escape(details)}"


def _short(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def print_job(job: JobResource) -> None:
    """A job for people."""
    console = out()
    table = Table(show_header=False, box=None, pad_edge=False)
    rows: list[tuple[str, object]] = [("id", job.id), ("state", job.state.value)]
    rows += [
        (name, job.spec[name])
        for name in ("model", "original_length", "target_length")
        if job.spec.get(name) is not None
    ]
    progress = job.progress
    rows += [("stage", progress.stage), ("generation", progress.generation), ("trials", progress.trials or None)]
    scored = f"{progress.document_passes} of at most {progress.total_document_passes or '?'}"
    if progress.cached_passes:
        scored += f", {progress.cached_passes} of them from the score cache"
    rows += [
        ("document passes", scored),
        ("tokens", _tokens(job)),
        ("best NLL", _cell(progress.best_nll)),
        ("time left", time_left(progress, job.kind)),
        ("waits", waits_for(job) if job.state.value == "queued" and not job.conditions else ""),
        ("labels", _pairs(job.labels)),
    ]
    rows += [("created", job.created_at.isoformat(timespec="seconds")), ("parent", job.parent_id)]
    rows += [("owner", job.owner), ("priority", job.priority or None)]
    rows += [(one.type, f"{one.reason}: {one.message}") for one in job.conditions]
    rows += [("note", warning) for warning in job.warnings]
    for name, value in rows:
        if value not in (None, ""):
            table.add_row(name, escape(str(value)))
    console.print(table)
    print_result(job)


def _tokens(job: JobResource) -> str:
    read, most = job.progress.tokens, job.progress.total_tokens
    return "" if not read else large(read) + (f" of at most {large(most)}" if most else "")


def print_result(job: JobResource) -> None:
    """How a job ended: the verdict, the table of an evaluation, or why it failed."""
    console = out()
    if job.error is not None:
        console.print(f"[red]{escape(job.error.code)}[/red]: {escape(job.error.message)}")
    match job.result:
        case SearchReport(statement=statement, finalists=rows):
            print_hanging(Text(statement), indent=0)
            print_table(_scores(rows, "name", *_SCORES))
        case EvaluationReport(rows=rows):
            print_table(_scores(rows, "name", "length", *_SCORES))
        case FinetuneReport(checkpoint=checkpoint):
            console.print(f"checkpoint: {checkpoint}", markup=False)


def _scores(rows: Sequence[Report], *columns: str) -> Table:
    table = Table(*columns)
    for row in rows:
        table.add_row(*(_cell(getattr(row, name)) for name in columns))
    return table


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if value < 1e4 else f"{value:.1e}"
    return "" if value is None else escape(str(value))


def _pairs(labels: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in labels.items())
