"""A complete run on the pocket model, over REST against a server that it starts.

Search, held-out validation, fine-tuning hand-off, evaluation; then a table, pictures, the factor file and a checkpoint
under `<ROPEWALK_HOME>/demo/`.
"""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from api.console import err, out, print_json
from api.demo.bars import Stages, bars
from api.demo.errors import DemoFailed
from api.demo.remains import EVALUATION_DOCUMENTS, LENGTHS, DemoReport, keep, show
from api.demo.server import demo_server, token_of
from api.settings import Settings
from evaluation.models.user_path import user_path
from ropewalk.client.errors import BadInput
from ropewalk.client.progress import large
from ropewalk.client.sync import Client
from ropewalk.wire.evaluation import EvaluationReport
from ropewalk.wire.jobs import JobResource
from ropewalk.wire.kinds import JOB_KINDS
from ropewalk.wire.plan import Plan
from ropewalk.wire.reports import SearchReport

LABEL = "from=demo"
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
    with demo_server(directory, console) as url, Client(url, key=token_of(directory)) as client:
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
        keep(client, search, finetune, rows, directory)
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
        show(report, console)
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


def _cancel_leftovers(client: Client) -> None:
    """End what an interrupted demo has left in the database: it would be run first."""
    for job in (job for kind in JOB_KINDS for job in client.jobs(kind, label=LABEL).items):
        if not client.get(job.id).is_final:
            client.cancel(job.id)


def _follow_search(client: Client, search_id: str, console: Console) -> JobResource:
    """Bars for searching, validating and fine-tuning, until the search has ended."""
    with bars(console) as shown:
        stages = Stages(shown)
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
    with bars(console) as shown:
        stages = Stages(shown)
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
