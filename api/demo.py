"""`ropewalk demo`: a complete run on the pocket model, over REST against a server that it starts.

Search, held-out validation, fine-tuning hand-off, evaluation; then a table, pictures, the factor file and a checkpoint
under `<ROPEWALK_HOME>/demo/`.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from api.console import err, out, print_json
from api.drawing.search import HeatMapRow, draw_needle_heat_map, draw_search
from api.errors import ApiRoomError
from api.settings import Settings
from evaluation.models.user_path import user_path
from ropewalk.client.errors import ApiError, BadInput, ServerUnreachable
from ropewalk.client.progress import large
from ropewalk.client.sync import Client
from ropewalk.client.token import local_token
from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.evaluation import EvaluationReport, EvaluationRow
from ropewalk.wire.jobs import JobResource
from ropewalk.wire.kinds import JOB_KINDS
from ropewalk.wire.plan import Plan
from ropewalk.wire.reports import SearchReport

LENGTHS = (256, 512, 768, 1024)  # tokens; the first is L, the last L'
EVALUATION_DOCUMENTS = 40
LABEL = "from=demo"
LEFT_BEHIND = (
    "factors.json",
    "checkpoint",
    "factors.png",
    "best-so-far.png",
    "race.png",
    "needles.png",
    "needle-heat-map.png",
)
SERVER_START_SECONDS = 120.0
POLL_SECONDS = 0.5

SPEC: dict[str, object] = {
    "model": "pocket",
    "target_length": LENGTHS[-1],
    "objective": {"documents": 24, "validation_documents": 80},
    "strategy": {"name": "auto", "startup": 16},  # enough for the shipped model, and a quarter quicker than the default
    "workers": 2,
    "seed": 0,
    "finetune": {},
    "labels": {"from": "demo"},
}


class DemoFailed(ApiRoomError, RuntimeError):
    """A job of the demo did not succeed, or its server did not come up; says which and why."""

    code = "DEMO_FAILED"


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoReport:
    """What the demo leaves behind."""

    directory: Path
    search_id: str
    statement: str
    rows: tuple[EvaluationRow, ...]
    seconds: float

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "directory": str(self.directory),
            "search_id": self.search_id,
            "statement": self.statement,
            "rows": [row.model_dump(exclude={"by_depth"}) for row in self.rows],
            "seconds": round(self.seconds, 1),
        }


def run_demo(settings: Settings, *, output: Path | None = None, seed: int = 0, as_json: bool = False) -> int:
    """Run the demo with live progress on the terminal; returns the exit code.

    Raises:
        BadInput: the output directory cannot be made.
        DemoFailed: a job failed or the server did not start; the server's log is named.
    """
    console = err() if as_json else out()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server is ended in order then, too
    started = time.monotonic()
    directory = (output or user_path(str(settings.home)) / "demo").absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"the output must be a directory, but {directory} is not: {error.strerror}") from error
    with _server(directory, console) as url, Client(url, key=_token(directory)) as client:
        console.print(f"server       {url}  (API: {url}/docs, dashboard: {url}/dashboard)")
        _cancel_leftovers(client)
        for line in plan_lines(client.plan({**SPEC, "seed": seed})):
            console.print(line, highlight=False)
        search = client.submit({**SPEC, "seed": seed})
        console.print(f"search       {search.id}: the pocket model, {LENGTHS[0]} to {LENGTHS[-1]} tokens")
        search = _follow_search(client, search.id, console)
        finetune = _finetune_of(client, search)
        evaluation = _evaluate(client, search, finetune, console)
        rows = evaluation.report(EvaluationReport).rows
        _keep(client, search, finetune, rows, directory)
    report = DemoReport(
        directory=directory,
        search_id=search.id,
        statement=search.report(SearchReport).statement,
        rows=rows,
        seconds=time.monotonic() - started,
    )
    if as_json:
        print_json(report.as_json())
    else:
        _show(report, console)
    return 0


def plan_lines(plan: Plan) -> Iterator[str]:
    """What the demo's jobs will take, a line for each kind of work."""
    for label, row in zip(("plan", *[""] * len(plan.rows)), plan.rows, strict=False):
        unit = "rows" if row.work == "training" else "passes"
        passes, tokens = large(row.passes), large(row.tokens)
        amount = f"{passes} {unit}, {tokens} tokens"
        if row.bound == "at most":
            amount = f"about {large(row.expected_passes)} {unit}, {large(row.expected_tokens)} tokens; at most {amount}"
        yield f"{label:<12} {row.work}: {amount}; {large(row.pflop * 1e15)}FLOP"


@contextmanager
def _server(directory: Path, console: Console) -> Iterator[str]:
    """A `ropewalk serve` of the demo's own on a free port; ended when the block ends."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ROPEWALK_")}
    environment |= {"ROPEWALK_HOME": str(directory / "server"), "ROPEWALK_PORT": str(port)}
    environment.pop("RAY_ADDRESS", None)
    log_path = directory / "server.log"
    with log_path.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "serve"],
            env=environment,
            cwd=directory,  # away from a .env file, which may name a real database
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the demo, which then ends the server in order
        )
        try:
            with console.status("starting PostgreSQL, Ray and the server"):
                _wait_until_ready(url, process, log_path)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()


def _token(directory: Path) -> str | None:
    return local_token("http://127.0.0.1", directory / "server")


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log_path: Path) -> None:
    deadline = time.monotonic() + SERVER_START_SECONDS
    with Client(url) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                client.ready()
            except (ServerUnreachable, ApiError, httpx.HTTPError):
                time.sleep(0.2)
            else:
                return
    tail = "\n".join(log_path.read_text(encoding="utf-8").splitlines()[-5:])
    raise DemoFailed(f"the server did not become ready; the end of {log_path} says:\n{tail}")


def _cancel_leftovers(client: Client) -> None:
    """End what an interrupted demo has left in the database: it would be run first."""
    for job in (job for kind in JOB_KINDS for job in client.jobs(kind, label=LABEL).items):
        if not client.get(job.id).is_final:
            client.cancel(job.id)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# -- following jobs --------------------------------------------------------------------------------------------------


def _bars(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<11}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


class _Stages:
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


def _follow_search(client: Client, search_id: str, console: Console) -> JobResource:
    """Bars for searching, validating and fine-tuning, until the search has ended."""
    with _bars(console) as bars:
        stages = _Stages(bars)
        while not (job := client.get(search_id)).is_final:
            stages.show(_finetune_of(client, job) if job.state == "finetuning" else job)
            time.sleep(POLL_SECONDS)
        stages.complete()
    return _succeeded(job)


def _finetune_of(client: Client, search: JobResource) -> JobResource:
    """The job that the search has handed its factors to."""
    for summary in client.jobs("finetune").items:
        job = client.get(summary.id)
        if job.parent_id == search.id:
            return job
    raise DemoFailed(f"search {search.id} has started no fine-tuning job")


def _evaluate(client: Client, search: JobResource, finetune: JobResource, console: Console) -> JobResource:
    job = client.submit_evaluation(
        {
            "model": "pocket",
            "search_id": search.id,
            "finetune_id": finetune.id,
            "lengths": list(LENGTHS),
            "documents": EVALUATION_DOCUMENTS,
            "workers": 2,
            "labels": {"from": "demo"},
        }
    )
    with _bars(console) as bars:
        stages = _Stages(bars)
        while not job.is_final:
            stages.show(job)
            time.sleep(POLL_SECONDS)
            job = client.get(job.id)
        stages.complete()
    return _succeeded(job)


def _succeeded(job: JobResource) -> JobResource:
    if job.state != "succeeded":
        reason = f"{job.error.code}: {job.error.message}" if job.error is not None else f"its state is {job.state}"
        raise DemoFailed(f"{job.kind} {job.id} did not succeed: {reason}")
    return job


# -- what is left behind ---------------------------------------------------------------------------------------------


def _keep(
    client: Client,
    search: JobResource,
    finetune: JobResource,
    rows: Sequence[EvaluationRow],
    directory: Path,
) -> None:
    """The factor file, the checkpoint and the pictures."""
    file = FactorFile.from_json(client.export(search.id))
    (directory / "factors.json").write_text(file.to_json(), encoding="utf-8")
    checkpoint = directory / "checkpoint"
    shutil.rmtree(checkpoint, ignore_errors=True)
    client.download(finetune.id, directory)
    draw_search(directory, client.pictures(search.id))
    _draw_needles(file, rows, directory)


def _draw_needles(file: FactorFile, rows: Sequence[EvaluationRow], directory: Path) -> None:
    best_baseline = file.validation.best_baseline if file.validation is not None else "yarn"
    names = dict.fromkeys(("none", "pi", best_baseline, "found factors", "fine-tuned"))
    heat = [
        HeatMapRow(name=row.name, length=row.length, by_depth=tuple((depth, exact) for depth, _, exact in row.by_depth))
        for name in names
        for row in rows
        if row.name == name
    ]
    draw_needle_heat_map(directory / "needle-heat-map.png", heat)


def _show(report: DemoReport, console: Console) -> None:
    short, long = LENGTHS[0], LENGTHS[-1]
    table = Table(title=f"{EVALUATION_DOCUMENTS} held-out needle documents a length; NLL in nats per answer token")
    table.add_column("")
    for length in (short, long):
        for column in ("NLL", "perplexity", "exact match"):
            table.add_column(f"{column} at {length}", justify="right")
    by_key = {(row.name, row.length): row for row in report.rows}
    for name in dict.fromkeys(row.name for row in report.rows):
        cells = [cell for length in (short, long) for cell in _cells(by_key[name, length])]
        table.add_row(name, *cells, style="bold" if name in ("found factors", "fine-tuned") else None)
    console.print(table)
    console.print(report.statement)
    for path in LEFT_BEHIND:
        console.print(f"  {report.directory / path}", soft_wrap=True)
    console.print(f"done in {report.seconds:.0f} s")


def _cells(row: EvaluationRow) -> tuple[str, str, str]:
    return f"{row.nll:.3f}", f"{row.perplexity:.3f}", f"{100 * row.exact_match:.1f} %"
