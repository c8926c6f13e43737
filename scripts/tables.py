"""The tables of the documentation that follow from the rows of a registry, each written between its own markers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from evaluation.ruler.tasks import TASKS
from ropewalk.factors.exports.registry import EXPORTS
from ropewalk.reading.annotations import docs_of, slots_of
from ropewalk.reading.writer import schema
from ropewalk.registry import Row
from scripts.imports import END, ROOT
from search_space.strategies.registry import STRATEGIES, StrategyRow
from service.evaluations.measures import MEASURES
from workers.gpus import GPUS


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One table: its `lines` under `head`, on `page`."""

    page: Path
    name: str
    head: str
    lines: Callable[[], Iterable[str]]
    script: str = "tables"

    @property
    def begin(self) -> str:
        """The comment that the table follows."""
        return f"<!-- begin {self.name}: written by scripts/{self.script} -->"

    def text(self) -> str:
        """The table as Markdown."""
        return "\n".join([self.head, "|---" * (self.head.count("|") - 1) + "|", *self.lines()])

    def written(self, page: str) -> str:
        """`page` with this table in it."""
        before, _, rest = page.partition(self.begin)
        return f"{before}{self.begin}\n\n{self.text()}\n\n{END}{rest.partition(END)[2]}"


def _summaries(rows: Iterable[Row]) -> Iterator[str]:
    return (f"| `{row.name}` | {row.summary} |" for row in rows)


def _measures() -> Iterator[str]:
    for row in MEASURES.values():
        asked_by = "always" if row.asked_by is None else f"`{row.asked_by}`"
        yield f"| {row.name} | {asked_by} | {', '.join(f'`{name}`' for name in row.fields)} | {row.summary} |"


def _gpus() -> Iterator[str]:
    return (
        f"| `{gpu.name}` | {gpu.bf16_tflops:g} | {gpu.memory_gib:g} | {gpu.summary} | {gpu.source} |"
        for gpu in GPUS.own.values()
    )


def _settings(rows: Iterable[StrategyRow]) -> Iterator[str]:
    """A line for each setting, with what its annotation and the string below it say."""
    for row in rows:
        settings, shown = row.load().settings, f"`{row.name}`"
        docs, properties = docs_of(settings), cast("dict[str, dict[str, Any]]", schema(settings)["properties"])
        for slot in slots_of(settings):
            default = slot.field.default if isinstance(slot.field.default, str) else json.dumps(slot.field.default)
            choices = ", ".join(properties[slot.name].get("enum", ()))
            values = choices if slot.range is None else slot.range.words()
            yield f"| {shown} | `{slot.name}` | {default} | {values} | {docs[slot.name]} |"
            shown = ""


DOCS = ROOT / "docs"
TABLES = (
    Table(
        page=DOCS / "evaluation.md",
        name="measures",
        head="| measure | asked for by | further fields | definition |",
        lines=_measures,
    ),
    Table(
        page=DOCS / "evaluation.md",
        name="tasks",
        head="| task | asks for |",
        lines=lambda: _summaries(TASKS.own.values()),
    ),
    Table(
        page=DOCS / "exports.md",
        name="formats",
        head="| format | holds |",
        lines=lambda: _summaries(EXPORTS.own.values()),
    ),
    Table(
        page=DOCS / "ablation.md",
        name="strategies",
        head="| strategy | setting | default | values | meaning |",
        lines=lambda: _settings(STRATEGIES.own.values()),
    ),
    Table(
        page=DOCS / "cost.md",
        name="gpus",
        head="| GPU | dense bfloat16, TFLOP/s | memory, GiB | form | source |",
        lines=_gpus,
    ),
)


def main() -> int:
    """Write every table; with --check write nothing, and return 1 where one would change."""
    changed = 0
    for table in TABLES:
        old = table.page.read_text()
        new = table.written(old)
        changed |= old != new
        if "--check" not in sys.argv:
            table.page.write_text(new)
    return int("--check" in sys.argv and changed)


if __name__ == "__main__":
    sys.exit(main())
