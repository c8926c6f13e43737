"""What a model is and what an extension of it meets, without a service and without weights."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from api.commands import common
from api.commands.offline import OriginalLength
from api.console import out, print_json

if TYPE_CHECKING:
    from ropewalk.wire.inspection import Inspection

_FROM = {
    "original_length": "as given",
    "max_position_embeddings": "max_position_embeddings of the config",
    "scaling": "what the model's own scaling makes of a shorter original length",
}
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("inspect")(inspect)


def inspect(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="pocket, a directory, or a hub id: org/name, org/name@REVISION.")
    ],
    original_length: OriginalLength = None,
    target_length: common.TargetLength = None,
    as_json: common.AsJson = False,
) -> None:
    """Say what a model is: lengths, rotary embedding, layers, memory, and which programs could load its factors."""
    from pydantic import TypeAdapter

    from ropewalk.wire.inspection import Inspection
    from service.inspection.making import inspect_model

    found = inspect_model(common.local_path(model), target_length=target_length, original_length=original_length)
    if as_json:
        print_json(TypeAdapter(Inspection).dump_python(found, mode="json"))
        return
    page = Table.grid(padding=(0, 2))
    page.add_column(no_wrap=True, style="bold")
    page.add_column(overflow="fold")
    for label, text in _lines(found):
        page.add_row(label, Text(text))
    out().print(page)


def _lines(found: "Inspection") -> Iterator[tuple[str, str]]:
    """(label, text) of the page; lines after the first one of a group have no label."""
    revision = "" if found.revision is None else f" at {found.revision}"
    yield "model", f"{found.model}{revision}: {found.model_type}, {found.model_class} of transformers"
    yield "original length L", f"{found.original_length} tokens, {_FROM[found.original_length_from]}"
    times = found.target_length / found.original_length
    yield "target length L'", f"{found.target_length} tokens, {times:.4g} times L"
    yield from _labelled("rotary embedding", _rotation(found))
    yield from _labelled("layers", [*found.layers.kinds, f"rescaled: {found.layers.rescaled}"])
    yield from _labelled("memory", _memory(found))
    yield from _labelled("factors load in", _consumers(found))
    yield from _labelled("warnings", found.warnings)
    yield from _labelled("published work", _priors(found))
    yield "", "(a prior, not a verdict: an evaluation of this model decides)"


def _labelled(label: str, texts: Iterator[str] | Sequence[str]) -> Iterator[tuple[str, str]]:
    for text in texts:
        yield label, text
        label = ""


def _rotation(found: "Inspection") -> Iterator[str]:
    rotation, own = found.rotation, found.rotation.own_scaling
    yield f"rope_theta {rotation.rope_theta:,.10g}, {rotation.num_pairs} pairs (rotary_dim {rotation.rotary_dim})"
    yield f"{rotation.pairs_beyond_length} of {rotation.num_pairs} pairs have wavelengths beyond L"
    yield (
        f"critical pairs: {rotation.theoretical_critical_pair} in theory, "
        f"{rotation.ten_period_critical_pair} with ten periods"
    )
    if own is None:
        yield "no scaling of its own"
        return
    low, high = own.smallest_factor, own.largest_factor
    yield (
        f"scaling of its own, {own.rope_type}: factors from {low:.4g} to {high:.4g}, "
        f"attention factor {own.attention_factor:.4g}; a search multiplies both"
    )


def _memory(found: "Inspection") -> Iterator[str]:
    memory = found.memory
    yield f"{memory.parameters:,} parameters, {_size(memory.weight_bytes)} in {memory.dtype}"
    yield f"KV cache of one sequence of {found.target_length} tokens: {_size(memory.kv_cache_bytes)} in {memory.dtype}"


def _consumers(found: "Inspection") -> Iterator[str]:
    for one in found.consumers:
        yield f"{one.format}: {'yes' if one.reason is None else f'no, {one.reason}'}"


def _priors(found: "Inspection") -> Iterator[str]:
    """Facts of which the same is known stand together."""
    for (evidence, source), alike in groupby(found.priors, key=lambda prior: (prior.evidence, prior.source)):
        yield f"{'; '.join(prior.fact for prior in alike)}: {evidence} [{source}]"


def _size(count: float) -> str:
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.3g} {_UNITS[unit]}" if count < 1000 else f"{count:.0f} {_UNITS[unit]}"
