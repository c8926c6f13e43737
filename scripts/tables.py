"""The tables of the documentation that list the rows of a registry, each written between its own markers."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from evaluation.ruler.tasks import TASKS
from scripts.imports import END, ROOT
from search_space.registry import Row


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One table: `name: summary` for every row that is ours, under `head`, on `page`."""

    page: Path
    name: str
    head: str
    rows: Iterable[Row]

    @property
    def begin(self) -> str:
        """The comment that the table follows."""
        return f"<!-- begin {self.name}: written by scripts/tables -->"

    def text(self) -> str:
        """The table as Markdown."""
        rows = (f"| `{row.name}` | {row.summary} |" for row in self.rows)
        return "\n".join([self.head, "|---|---|", *rows])

    def written(self, page: str) -> str:
        """`page` with this table in it."""
        before, _, rest = page.partition(self.begin)
        return f"{before}{self.begin}\n\n{self.text()}\n\n{END}{rest.partition(END)[2]}"


DOCS = ROOT / "docs"
TABLES = (Table(page=DOCS / "evaluation.md", name="tasks", head="| task | asks for |", rows=TASKS.own.values()),)


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
