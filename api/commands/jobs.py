"""Fine-tuning jobs and evaluations from the terminal."""

from typing import Annotated, Any

import typer

from api.client import RopewalkClient
from api.commands import common, live
from api.commands.searches import finish
from api.errors import BadInput
from api.schemas import JobResource

SearchOption = Annotated[str | None, typer.Option("--search", help="Take the factors of this search.")]
FactorsOption = Annotated[str | None, typer.Option("--factors", help="A factor file; - for stdin.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("finetune")(finetune)
    app.command("evaluate")(evaluate)


def finetune(
    search: SearchOption = None,
    factors: FactorsOption = None,
    model: Annotated[str | None, typer.Option(help="Default: the model that the factors were found for.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Where training text comes from.")] = None,
    seed: Annotated[int | None, typer.Option(help="All randomness is derived from it.")] = None,
    label: common.LabelOptions = None,
    idempotency_key: common.IdempotencyKey = None,
    wait: common.Wait = False,
    as_json: common.AsJson = False,
) -> int:
    """Fine-tune a model with found factors (mixed-context-window training)."""
    if (search is None) == (factors is None):
        raise BadInput("exactly one of --search and --factors must be given")
    spec: dict[str, Any] = {"labels": common.labels_of(label)}
    options = {
        "search_id": search,
        "factors": None if factors is None else common.read_json_object(factors),
        "model": common.server_path(model),
        "settings.steps": steps,
        "settings.learning_rate": learning_rate,
        "settings.corpus": common.server_path(corpus),
        "settings.seed": seed,
    }
    for path, value in options.items():
        common.put(spec, path, value)
    with common.client() as client:
        job = client.submit_finetune(spec, idempotency_key=idempotency_key)
        return _after_submission(client, job, wait=wait, as_json=as_json)


def evaluate(
    search: SearchOption = None,
    factors: FactorsOption = None,
    finetune: Annotated[str | None, typer.Option("--finetune", help="Also evaluate this job's checkpoint.")] = None,
    model: Annotated[str | None, typer.Option(help="Default: the model of the search or the factors.")] = None,
    target_length: Annotated[int | None, typer.Option(help="Tokens; default: the factors' own.")] = None,
    lengths: Annotated[str | None, typer.Option(help="Tokens, comma-separated: 256,1024.")] = None,
    documents: Annotated[int | None, typer.Option(help="Documents per length.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Where haystacks come from.")] = None,
    seed: Annotated[int | None, typer.Option(help="All randomness is derived from it.")] = None,
    baselines: Annotated[bool, typer.Option(help="Evaluate the analytic baselines too.")] = True,
    label: common.LabelOptions = None,
    idempotency_key: common.IdempotencyKey = None,
    wait: common.Wait = False,
    as_json: common.AsJson = False,
) -> int:
    """Evaluate needle retrieval of a model at several lengths, with given factors and with the baselines."""
    given_factors = None if factors is None else common.read_json_object(factors)
    has_source = search is not None or finetune is not None or given_factors is not None
    spec: dict[str, Any] = {"labels": common.labels_of(label), "baselines": baselines}
    if model is None and has_source:
        spec["model"] = None
    options = {
        "search_id": search,
        "factors": given_factors,
        "finetune_id": finetune,
        "model": common.server_path(model),
        "target_length": target_length,
        "lengths": _lengths(lengths),
        "documents": documents,
        "corpus": common.server_path(corpus),
        "seed": seed,
    }
    for path, value in options.items():
        common.put(spec, path, value)
    with common.client() as client:
        job = client.submit_evaluation(spec, idempotency_key=idempotency_key)
        return _after_submission(client, job, wait=wait, as_json=as_json)


def _lengths(text: str | None) -> list[int] | None:
    try:
        return None if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        raise BadInput(f"--lengths must be whole numbers separated by commas, but got {text!r}") from None


def _after_submission(client: RopewalkClient, job: JobResource, *, wait: bool, as_json: bool) -> int:
    if not wait:
        common.print_json(job) if as_json else common.print_line(job.id)
        return 0
    if not as_json:
        common.print_line(job.id)
    return finish(live.follow(client, job.id, as_json=as_json), as_json=as_json)
