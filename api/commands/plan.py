"""What a job will cost, before it starts; without a service and without weights."""

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.table import Table

from api.commands import common, spec_files
from api.console import note, print_json, print_table
from api.report.plans import cells, columns, headline, remarks
from ropewalk.client.errors import BadInput
from ropewalk.wire.kinds import KINDS

if TYPE_CHECKING:
    from ropewalk.wire.plan import Plan
    from service.plans.work import Device
    from service.specs.plan import PlanOptions

Gpu = Annotated[str | None, typer.Option(help="The GPU by name, such as H100, A100 or L4; default: H100.")]
Gpus = Annotated[int | None, typer.Option(help="How many there are; default: as many as the spec's workers take.")]
Utilisation = Annotated[float | None, typer.Option(help="Share of the peak that passes reach; default: 0.4.")]
Price = Annotated[float | None, typer.Option("--price", help="Of a GPU-hour, in any currency.")]

S = TypeVar("S")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plan")(plan)


def plan(
    spec_file: spec_files.SpecFile = None,
    kind: Annotated[str, typer.Option(help=f"Of the spec: {common.any_of(KINDS)}.")] = "search",
    model: Annotated[
        str | None, typer.Option(help="pocket, a directory, or a hub id (org/name@REVISION); its config is enough.")
    ] = None,
    target_length: common.TargetLength = None,
    finetune: Annotated[bool, typer.Option("--finetune", help="Plan a training with the winner, too.")] = False,
    gpu: Gpu = None,
    gpus: Gpus = None,
    utilisation: Utilisation = None,
    price: Price = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time a few passes on this machine instead; needs the weights.")
    ] = False,
    as_json: common.AsJson = False,
) -> None:
    """Say what a job will cost: passes, tokens, operations, memory, hours and money, row by row."""
    spec: dict[str, Any] = {} if spec_file is None else spec_files.read_object(spec_file)
    given: dict[str, object] = {
        "model": None if model is None else common.local_path(model),
        "target_length": target_length,
        "finetune": {} if finetune and not spec.get("finetune") else None,
    }
    common.put(spec, given)
    options = options_of(gpu, gpus, utilisation, price)
    print_plan(_planned(kind, spec, options, file=spec_file, measure=measure), as_json=as_json)


def options_of(gpu: str | None, gpus: int | None, utilisation: float | None, price: float | None) -> "PlanOptions":
    """The options that were given, checked.

    Raises:
        BadInput: one breaks a rule.
    """
    from service.specs.plan import PlanOptions

    given = {"gpu": gpu, "gpus": gpus, "utilisation": utilisation, "price_per_gpu_hour": price}
    return _checked(PlanOptions, {name: value for name, value in given.items() if value is not None})


def _checked(spec: type[S], given: dict[str, Any], file: str | None = None) -> S:
    """What was given as a `spec`; of what is wrong with it the first is told."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(spec).validate_python(given)
    except ValidationError as error:
        from api.http.fields import first_problem  # the web framework takes a moment, and most specs are right

        raise BadInput(f"{'' if file is None else f'{file}: '}{first_problem(error, given, spec)}") from error


def _planned(kind: str, spec: dict[str, Any], options: "PlanOptions", *, file: str | None, measure: bool) -> "Plan":
    from service.plans.making import plan_evaluation, plan_finetune, plan_search
    from service.plans.work import Device
    from service.specs.evaluation import EvaluationSpec
    from service.specs.finetune import FinetuneSpec
    from service.specs.search import SearchSpec

    if kind not in KINDS:
        raise BadInput(f"--kind must be {common.any_of(KINDS)}, but got {kind!r}")
    if measure and kind != "search":
        raise BadInput(f"--measure must be of a search, whose passes are timed, but got --kind {kind}")
    if kind == "finetune":
        return plan_finetune(_checked(FinetuneSpec, spec, file), Device.of(options))
    if kind == "evaluation":
        return plan_evaluation(_checked(EvaluationSpec, spec, file), Device.of(options))
    search = _checked(SearchSpec, spec, file)
    planned = plan_search(search, Device.of(options))  # refuses what it refuses before anything is timed
    return plan_search(search, _measured(search, options)) if measure else planned


def _measured(search: Any, options: "PlanOptions") -> "Device":
    from dataclasses import replace

    from service.plans.measuring import measured_device

    return replace(measured_device(search, note), price_per_hour=options.price_per_gpu_hour)


def print_plan(found: "Plan", *, as_json: bool) -> None:
    """As a table, or as JSON."""
    if as_json:
        from pydantic import TypeAdapter

        from ropewalk.wire.plan import Plan

        print_json(TypeAdapter(Plan).dump_python(found, mode="json"))
        return
    table = Table(*columns(found), title=headline(found))
    for row in cells(found):
        table.add_row(*row)
    print_table(table)
    for text in remarks(found):
        note(text)
