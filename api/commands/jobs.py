"""Fine-tuning jobs from the terminal, and what other jobs share with them."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from api.commands import common, live, spec_files
from api.console import print_json, print_line
from finetune.config import RecipeName
from finetune.optimizers import OptimizerName
from ropewalk.client.errors import BadInput

SearchOption = Annotated[str | None, typer.Option("--search", help="Use the factors of this search.")]
FactorsOption = Annotated[str | None, typer.Option("--factors", help="A factor file; - for stdin.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("finetune")(finetune)
    app.command("merge")(merge)


def finetune(
    spec_file: spec_files.SpecFile = None,
    search: SearchOption = None,
    factors: FactorsOption = None,
    model: Annotated[str | None, typer.Option(help="Default: the model that the factors were found for.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help=f"{common.any_of(get_args(RecipeName))}: the defaults of the other settings.")
    ] = None,
    corpus: Annotated[str | None, typer.Option(help="Where training text comes from.")] = None,
    workers: Annotated[int | None, typer.Option(help="Training processes, one GPU each if there are any.")] = None,
    sharding: Annotated[str | None, typer.Option(help="none, or fsdp: for models larger than one GPU.")] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(help=f"{common.any_of(get_args(OptimizerName))}; the last two where memory is short."),
    ] = None,
    lora_rank: Annotated[int | None, typer.Option(help="Train adapters of this rank only; see `merge`.")] = None,
    seed: Annotated[int | None, typer.Option(help="All randomness is derived from it.")] = None,
    label: common.LabelOptions = None,
    idempotency_key: common.IdempotencyKey = None,
    priority: common.Priority = None,
    wait: common.Wait = False,
    as_json: common.AsJson = False,
) -> int:
    """Fine-tune a model with found factors (mixed-context-window training). Flags win over a spec file."""
    if spec_file is None and (search is None) == (factors is None):
        raise BadInput("exactly one of --search and --factors must be given, or a spec file")
    spec: dict[str, Any] = {} if spec_file is None else spec_files.read_object(spec_file)
    given = {
        "search_id": search,
        "factors": None if factors is None else common.factors_to_send(factors),
        "model": common.server_path(model),
        "settings.steps": steps,
        "settings.learning_rate": common.finite("--learning-rate", learning_rate),
        "settings.recipe": recipe,
        "settings.corpus": common.server_path(corpus),
        "settings.workers": workers,
        "settings.sharding": sharding,
        "settings.optimizer": optimizer,
        "settings.lora_rank": lora_rank,
        "settings.seed": seed,
    }
    common.put(spec, given)
    common.put_labels(spec, label)
    with common.client() as client:
        job = client.submit_finetune(spec, idempotency_key=idempotency_key, priority=priority)
        return live.after_submission(client, job, wait=wait, as_json=as_json)


def merge(
    adapter: Annotated[Path, typer.Argument(help="A directory that an adapter-only fine-tuning has written.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A new or an empty directory.")],
    model: Annotated[str | None, typer.Option(help="The base model; default: the one that the factors name.")] = None,
    as_json: common.AsJson = False,
) -> None:
    """Merge a trained adapter into its model: a whole checkpoint with the RoPE that it was trained with."""
    from finetune.adapters import merge_adapter

    try:
        file = merge_adapter(adapter, output, model=model)
    except OSError as error:
        raise BadInput(f"the adapter must be readable and the output writable, but {error}") from error
    result = {"path": str(output), "model": file.model.name, "target_length": file.target_length}
    print_json(result) if as_json else print_line(str(output))
