"""What the command line prints: for people on a terminal, or JSON for programs."""

import json
import sys
from collections.abc import Mapping, Sequence

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 200  # columns


def out() -> Console:
    """Standard output, for people; where it is not a terminal, nothing is cut to fit one."""
    return Console(emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)


def print_table(table: Table) -> None:
    """A table on standard output; without lines, so that programs find its columns, where that is not a terminal."""
    if not sys.stdout.isatty():
        table.box = None
        table.pad_edge = False
    out().print(table)


def print_hanging(line: Text, *, indent: int) -> None:
    """A line on standard output; on a terminal that is narrower, its rest stands below it, indented."""
    if not sys.stdout.isatty():
        print_line(line.plain)
        return
    console = Console(emoji=False)
    first, *rest = line.wrap(console, console.width - indent) if line.cell_len > console.width else [line]
    console.print(first)
    for more in rest:
        console.print(Text(" " * indent) + more)


def err() -> Console:
    """Standard error: progress and notes."""
    return Console(emoji=False, stderr=True)


def note(text: str) -> None:
    """One line of standard error for whoever reads the result."""
    err().print(f"note: {text}", markup=False, highlight=False, soft_wrap=True)


def print_json(value: BaseModel | Mapping[str, object] | Sequence[object]) -> None:
    """One JSON document on one line."""
    text = value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value, allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_line(text: str) -> None:
    """One line of standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
