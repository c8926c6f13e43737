"""A search's life from the terminal; every command here talks to a server."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from api.commands import common, live, spec_files
from api.commands.offline import SkipGaps, SkipPlaces, SkipTokens
from api.commands.plan import print_plan
from api.console import err, print_json, print_line, print_table
from ropewalk.client.errors import BadInput
from ropewalk.client.progress import large
from ropewalk.client.sync import Client
from ropewalk.names import short_name
from ropewalk.wire.jobs import JobResource
from ropewalk.wire.kinds import KINDS, JobKind, JobState
from search_space.strategies.registry import STRATEGIES

_COLUMNS = ("id", "state", "model", "length", "passes", "tokens", "best NLL", "created", "labels")
STRATEGY_HELP = f"{', '.join(STRATEGIES.own)}, or one of an installed package."
PausableId = Annotated[str, typer.Argument(metavar="ID", help=f"The job's id: {common.ids_of('pause')}")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("submit")(submit)
    app.command("list")(list_jobs)
    app.command("show")(show)
    app.command("watch")(watch)
    app.command("cancel")(cancel)
    app.command("pause")(pause)
    app.command("resume")(resume)
    app.command("prioritize")(prioritize)


def submit(
    spec_file: spec_files.SpecFile = None,
    model: Annotated[
        str | None, typer.Option(help="pocket, a directory, or a hub id: org/name, org/name@REVISION.")
    ] = None,
    target_length: common.TargetLength = None,
    original_length: common.OriginalLength = None,
    documents: Annotated[int | None, typer.Option(help="Search documents per candidate.")] = None,
    skip_tokens: SkipTokens = None,
    skip_gaps: SkipGaps = None,
    skip_places: SkipPlaces = None,
    validation_documents: Annotated[int | None, typer.Option(help="Held-out documents per finalist.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Where haystacks come from.")] = None,
    strategy: Annotated[str | None, typer.Option(help=STRATEGY_HELP)] = None,
    max_trials: Annotated[int | None, typer.Option(help="Candidates at most.")] = None,
    max_document_passes: Annotated[int | None, typer.Option(help="Forward passes at most.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens of those passes at most.")] = None,
    patience: Annotated[int | None, typer.Option(help="Generations without a better candidate.")] = None,
    backend: Annotated[str | None, typer.Option(help=common.BACKEND_HELP)] = None,
    attention_factor: Annotated[str | None, typer.Option(help="A number, or search.")] = None,
    workers: Annotated[int | None, typer.Option(help="Scoring workers.")] = None,
    seed: Annotated[int | None, typer.Option(help="All randomness is derived from it.")] = None,
    start_from: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Begin with the best shapes of this search, mapped and scored anew."),
    ] = None,
    finetune: Annotated[bool, typer.Option("--finetune", help="Fine-tune with the winner.")] = False,
    label: common.LabelOptions = None,
    validate_only: Annotated[bool, typer.Option("--validate-only", help="Check and estimate, submit nothing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, submit nothing.")] = False,
    idempotency_key: common.IdempotencyKey = None,
    priority: common.Priority = None,
    wait: common.Wait = False,
    as_json: common.AsJson = False,
) -> int:
    """Submit a search: a spec file, or flags, which win over the file. Prints the search's id."""
    spec = _begun(spec_file, model, target_length)
    given: dict[str, object] = {
        "model": common.server_path(model),
        "target_length": target_length,
        "original_length": original_length,
        "objective.documents": documents,
        "objective.skipped.tokens": skip_tokens,
        "objective.skipped.gaps": skip_gaps,
        "objective.skipped.places": skip_places,
        "objective.validation_documents": validation_documents,
        "objective.corpus": common.server_path(corpus),
        "strategy.name": strategy,
        "budget.max_trials": max_trials,
        "budget.max_document_passes": max_document_passes,
        "budget.max_tokens": max_tokens,
        "budget.patience": patience,
        "scorer.backend": backend,
        "scorer.attention_factor": _number_or_text(attention_factor),
        "workers": workers,
        "seed": seed,
        "start_from": start_from,
        "finetune": {} if finetune and not spec.get("finetune") else None,
    }
    common.put(spec, given)
    common.put_labels(spec, label)
    with common.client() as client:
        if validate_only:
            print_json(client.validate(spec))
            return 0
        if dry_run:
            print_plan(client.plan(spec), as_json=as_json)
            return 0
        job = client.submit(spec, idempotency_key=idempotency_key, priority=priority)
        return live.after_submission(client, job, wait=wait, as_json=as_json)


def _begun(spec_file: str | None, model: str | None, target_length: int | None) -> dict[str, Any]:
    if spec_file is not None:
        return spec_files.read_object(spec_file)
    if model is None or target_length is None:
        raise BadInput("either a spec file or --model and --target-length must be given")
    return {}


def _number_or_text(text: str | None) -> float | str | None:
    try:
        number = None if text is None else float(text)
    except ValueError:
        return text
    return common.finite("--attention-factor", number)


def list_jobs(
    kind: Annotated[str, typer.Option(help=f"{common.any_of(KINDS)}.")] = "search",
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    label: Annotated[str | None, typer.Option(help="Only jobs with this label: key=value.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most jobs to list, up to 200.")] = 20,
    page_token: Annotated[str | None, typer.Option(help="next_page_token of the previous page.")] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only jobs that your key submitted.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """List jobs, newest first."""
    with common.client() as client:
        page = client.jobs(_kind(kind), state=state, label=label, limit=limit, page_token=page_token, mine=mine)
    if as_json:
        print_json(page)
        return
    table = Table(*(Column(name, no_wrap=name == "id") for name in _COLUMNS))
    for job in page.items:
        best = "" if job.progress.best_nll is None else f"{job.progress.best_nll:.4f}"
        labels = " ".join(f"{name}={value}" for name, value in job.labels.items())
        tokens = large(job.progress.tokens) if job.progress.tokens else ""
        created = job.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        model = "" if job.model is None else short_name(job.model)
        length = "" if job.target_length is None else str(job.target_length)
        passes = str(job.progress.document_passes)
        table.add_row(job.id, job.state.value, model, length, passes, tokens, best, created, labels)
    print_table(table)
    if page.next_page_token:
        err().print(f"more: --page-token {page.next_page_token}", markup=False)


def _kind(text: str) -> JobKind:
    try:
        return KINDS.find(text).name
    except ValueError as error:
        raise BadInput(f"--{error}") from None


def show(job_id: common.JobId, as_json: common.AsJson = False) -> None:
    """Show one job: state, progress, result."""
    with common.client() as client:
        job = client.get(job_id)
    print_json(job) if as_json else live.print_job(job)


def watch(job_id: common.JobId, as_json: common.AsJson = False) -> int:
    """Follow a job until it has ended; with --json one event a line. Exits 0 if the job succeeded."""
    with common.client() as client:
        job = live.watch(client, job_id, as_json=as_json)
    if not as_json:
        live.print_result(job)
    return 0 if job.state is JobState.succeeded else 1


def cancel(job_id: common.JobId, as_json: common.AsJson = False) -> None:
    """End a job; what was scored is kept."""
    _act(Client.cancel, job_id, as_json=as_json)


def pause(job_id: PausableId, as_json: common.AsJson = False) -> None:
    """Pause a search or a fine-tuning; its workers are freed."""
    _act(Client.pause, job_id, as_json=as_json)


def resume(job_id: PausableId, as_json: common.AsJson = False) -> None:
    """Continue a paused search or fine-tuning, on any controller."""
    _act(Client.resume, job_id, as_json=as_json)


def prioritize(
    job_id: common.JobId,
    priority: Annotated[int, typer.Argument(min=-100, max=100, help="A greater one comes first; above 0: admins.")],
    as_json: common.AsJson = False,
) -> None:
    """Change a job's place among those that wait. Give a negative one behind --."""
    with common.client() as client:
        job = client.prioritize(job_id, priority)
    print_json(job) if as_json else print_line(f"{job.id} {job.state.value}, priority {job.priority}")


def _act(act: Callable[[Client, str], JobResource], job_id: str, *, as_json: bool) -> None:
    with common.client() as client:
        job = act(client, job_id)
    if as_json:
        print_json(job)
    else:
        asked = "" if job.request == "none" else f" ({job.request} was asked for)"
        print_line(f"{job.id} {job.state.value}{asked}")
