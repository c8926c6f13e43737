"""docs/models.md: what is read of each model family, and how far it goes. `tests/families` holds what it says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from evaluation.architecture.reading import Architecture, read_architecture
from ropewalk.errors import UnsupportedRope
from scripts.imports import ROOT

PAGE = ROOT / "docs" / "models.md"
DATA = ROOT / "tests" / "families" / "families.json"
_WORKS = "works"
_HEAD = """# Models

Written by `scripts/models`. A model is read by the code that transformers has for it, on no weights: nothing below is
a list that the program looks at, and a family that is not here may work as well. Each row is a published variant as
`make test-families` tests it, with its sizes shrunk and its lengths divided until L is some hundred tokens; the
factors between the lengths are those of the published model. *Works* means, for random weights on a CPU: all analytic
methods give finite factors; a score without factors is what transformers computes with the published config, within
1e-4 nats per token; a score with factors is what it computes with their `hf` export merged into the config, within L
and past it.

`ropewalk score --model MODEL --factors none` says in a line what any other model is refused for.
"""


def entries() -> list[dict[str, Any]]:
    """The families, as they stand in the data."""
    found: list[dict[str, Any]] = json.loads(DATA.read_text(encoding="utf-8"))
    return found


def counted(families: Sequence[Mapping[str, Any]]) -> str:
    """How many work and how many are refused."""
    works = sum(one["expected"] == _WORKS for one in families)
    return f"{works} of {len(families)} variants work, and {len(families) - works} are refused"


def page(row: Callable[[Mapping[str, Any]], str]) -> str:
    """The whole page, of lines that `row` makes."""
    families = entries()
    listed, others = ([one for one in families if one.get("listed", True) is wanted] for wanted in (True, False))
    return "\n".join(
        [
            _HEAD,
            *_section("Much used families", listed, row),
            *_section("Others that were tried", others, row),
        ]
    )


def _section(
    title: str, families: Sequence[Mapping[str, Any]], row: Callable[[Mapping[str, Any]], str]
) -> Iterator[str]:
    yield f"## {title}\n"
    yield f"{counted(families)}.\n"
    yield "| as published | model type | L | n | own scaling | rescaled | |"
    yield "|---|---|---|---|---|---|---|"
    yield from map(row, families)
    yield ""


def row(one: Mapping[str, Any]) -> str:
    """A variant's line of the table."""
    config = one["config"]
    try:
        read = read_architecture(config, original_length=one.get("original_length"))
    except UnsupportedRope as refusal:
        return f"| {one['published']} | `{config['model_type']}` | | | | | refused: {_cell(str(refusal))} |"
    rope, notes = read.rope, "; ".join(["works", *_notes(one, read)])
    length, pairs = rope.original_max_position_embeddings, rope.num_pairs
    return (
        f"| {one['published']} | `{config['model_type']}` | {length} | {pairs} | {_own(read)} | "
        f"{_rescaled(read)} | {_cell(notes)} |"
    )


def _own(read: Architecture) -> str:
    own = read.rope.published
    if own is None:
        return ""
    factor = "" if own.attention_factor == 1.0 else f", A0 = {own.attention_factor:.4f}"
    return f"{own.rope_type}{factor}"


def _rescaled(read: Architecture) -> str:
    """Which layers turn by the factors, and what the others do."""
    layers, typed = read.layers.all, read.rope.place.layer_type
    changed = [one.rotates and typed in (None, one.layer_type) for one in layers]
    if all(changed):
        return "all layers"
    others = [one for one, is_changed in zip(layers, changed, strict=True) if not is_changed]
    kinds = {
        "with the positions of their own": any(one.attends and one.rotates for one in others),
        "without positions": any(one.attends and not one.rotates for one in others),
        "without attention": any(not one.attends for one in others),
    }
    said = " and ".join(kind for kind, is_there in kinds.items() if is_there)
    return f"{sum(changed)} of {len(layers)} layers; the others are {said}"


def _notes(one: Mapping[str, Any], read: Architecture) -> Iterator[str]:
    if (length := one.get("original_length")) is not None:
        yield f"needs `original_length`, here {length}"
    if (refusal := read.rope.place.hf_refusal) is not None:
        yield f"no `hf` export and no fine-tuning: {refusal}"
    if (own_switch := read.rope.place.own_switch) is not None:
        yield f"its other factors, for up to {own_switch} tokens, are lost in an export"
    if not one.get("attention_factor_matters", True):
        yield "the attention factor cancels: queries and keys are normed behind the rotation"
    if (reach := read.layers.reach) is not None:
        yield f"sees no farther than {reach} tokens, with {len(read.layers.all)} layers"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Write the page; with --check write nothing, and return 1 where it would change."""
    new = page(row)
    if "--check" in sys.argv:
        return int(PAGE.read_text(encoding="utf-8") != new)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
