"""`ropewalk ablate`: strategies x seeds x models x lengths as one resumable experiment. Needs no service."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from api.commands import common, spec_files
from api.console import err, out, print_json, print_line
from api.settings import load_settings, tell_ray_address
from ropewalk.client.errors import BadInput
from ropewalk.client.progress import large

if TYPE_CHECKING:
    from rich.table import Table

    from service.ablations.cells import AblationStore
    from service.ablations.results import Ablation, BaselineResult, CellResult, Group
    from service.ablations.run import OnCell
    from service.ablations.spec import AblationSpec, Cell


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ablate")(ablate)


def ablate(
    spec: Annotated[
        str | None, typer.Argument(metavar="SPEC.json", help="The experiment; - is standard input.")
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Experiments are written to DIR/NAME.")
    ] = Path("ablations"),
    workers: Annotated[int, typer.Option(min=1, help="Cells to run in parallel, one model copy each.")] = 1,
    example: Annotated[bool, typer.Option("--example", help="Print a small spec for the pocket model.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """Run strategies x seeds x models x lengths in parallel; the same command resumes the experiment."""
    from service.ablations.cells import AblationStore
    from service.ablations.spec import EXAMPLE

    if example:
        print_line(json.dumps(EXAMPLE, indent=2))
        return
    if spec is None:
        raise BadInput("an ablation needs SPEC.json; --example prints one")
    parsed = _parse(spec_files.read_object(spec))
    with _writable(output):
        store = AblationStore.claim(parsed, output)
    found = _run(parsed, store, workers)
    with _writable(output):
        paths = _write(found, store.directory)
    if as_json:
        print_json({**found.to_dict(), "paths": {name: str(path) for name, path in paths.items()}})
    else:
        out().print(*_tables(found), sep="\n")
        for path in paths.values():
            print_line(str(path))
    _tell_failures(found)


def _parse(given: dict[str, Any]) -> "AblationSpec":
    """The spec with models and corpora by absolute path: cells run in processes with other working directories."""
    from service.ablations.spec import parse_ablation

    spec = parse_ablation(given)
    base = spec.base.model_dump()
    _put_path(base, "model")
    _put_path(base["objective"], "corpus")
    strategies = spec.model_dump()["strategies"]
    for one in strategies:
        _put_path(one["objective"], "corpus")
    models = None if spec.models is None else [common.server_path(model) for model in spec.models]
    return parse_ablation({**spec.model_dump(), "base": base, "strategies": strategies, "models": models})


def _put_path(fields: dict[str, Any], name: str) -> None:
    """What `name` gives by its absolute path, where it exists here."""
    if isinstance(fields.get(name), str):
        fields[name] = common.server_path(fields[name])


def _run(spec: "AblationSpec", store: "AblationStore", workers: int) -> "Ablation":
    from service.ablations.run import run_ablation

    settings = load_settings()
    tell_ray_address(settings)
    address = settings.ray_address
    if address is not None and "://" in address:
        raise BadInput(f"an ablation needs RAY_ADDRESS=host:port of the cluster's head, but got {address}")
    with _progress(len(spec.cells())) as on_cell:
        return run_ablation(spec, store, workers=workers, ray_address=address, on_cell=on_cell)


@contextmanager
def _writable(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"the output must be writable, but {output} is not: {error.strerror or error}") from error


@contextmanager
def _progress(cells: int) -> "Iterator[OnCell]":
    """A bar on a terminal, a line per cell elsewhere; both on standard error."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = err()
    if not console.is_terminal:
        done = count(1)

        def tell(cell: "Cell", result: "CellResult | None") -> None:
            console.print(f"{next(done)}/{cells} {_line(cell, result)}", soft_wrap=True, markup=False, highlight=False)

        yield tell
        return
    last = TextColumn("{task.fields[last]}", markup=False)
    with Progress("cells", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), last, console=console) as bar:
        task = bar.add_task("cells", total=cells, last="")
        yield lambda cell, result: bar.update(task, advance=1, last=_line(cell, result))


def _line(cell: "Cell", result: "CellResult | None") -> str:
    if result is None:
        return str(cell)
    return (
        f"{cell}: {result.held_out.nll:.4f} nats held out after {result.search_passes} document passes{_tokens(result)}"
    )


def _tokens(result: "CellResult") -> str:
    return "" if result.search_tokens is None else f", {large(result.search_tokens)} tokens"


def _write(found: "Ablation", directory: Path) -> dict[str, Path]:
    from api.drawing.ablation import draw_ablation  # matplotlib takes a second

    paths = {"json": directory / "ablation.json", "picture": directory / "ablation.png"}
    common.write_text(paths["json"], found.to_json())
    draw_ablation(paths["picture"], found)
    return paths


def _tell_failures(found: "Ablation") -> None:
    from service.errors import RunFailed

    if found.failures:
        first = found.failures[0]
        raise RunFailed(
            f"{len(found.failures)} of {len(found.spec.cells())} cells failed, and the same command tries them again; "
            f"the first, {first.cell}: {first.reason}"
        )


# -- the tables -----------------------------------------------------------------------------------------------------

# Beside the label; narrow enough for a terminal. Everything else is in ablation.json.
_NUMBERS = ("seeds", "passes", "validation", "tokens", "NLL", "least", "most", "exact", "A", "beats")


def _tables(found: "Ablation") -> "Iterator[Table]":
    """One for each model and length: strategies by their median over seeds, then the baselines."""
    from rich import box
    from rich.table import Table

    from api.drawing.ablation import short_name

    for model, length in found.places:
        place = f"{short_name(model)}, {length} tokens"
        title = f"{place}: medians over seeds, on {found.spec.heldout_documents} held-out documents"
        table = Table(title=escape(title), box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
        table.add_column(min_width=14)
        for name in _NUMBERS:
            table.add_column(name, justify="right", no_wrap=True)
        for group in found.groups():
            if (group.model, group.target_length) == (model, length):
                table.add_row(*_group_row(group))
        table.add_section()
        for one in found.baselines_at(model, length):
            table.add_row(*_baseline_row(one))
        yield table


def _group_row(group: "Group") -> tuple[str, ...]:
    return (
        escape(group.label),
        str(len(group.seeds)),
        f"{group.search_passes.median:.0f}",
        f"{group.validation_passes.median:.0f}",
        _all_tokens(group),
        f"{group.nll.median:.4f}",
        f"{group.nll.low:.4f}",
        f"{group.nll.high:.4f}",
        f"{group.exact_match.median:.1%}",
        f"{group.attention_factor.median:.4g}",
        f"{group.beaten}/{len(group.seeds)}",
    )


def _all_tokens(group: "Group") -> str:
    searched, validated = group.search_tokens, group.validation_tokens
    return "" if searched is None or validated is None else large(searched.median + validated.median)


def _baseline_row(one: "BaselineResult") -> tuple[str, ...]:
    held_out = one.held_out
    scores = f"{held_out.nll:.4f}", "", "", f"{held_out.exact_match:.1%}", f"{one.attention_factor:.4g}"
    return (one.name, "", "", "", "", *scores, "")
