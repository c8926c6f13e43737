"""What the command line prints: for people on a terminal, or JSON for programs."""

import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import IO, cast

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 200  # columns
_PADDING = re.compile(r" +\n")


class _Unpadded(io.TextIOBase):
    """Standard output without the spaces that fill a table's last column, which a log or a program has no use for."""

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """What rich writes: whole lines."""
        sys.stdout.write(_PADDING.sub("\n", text))
        return len(text)

    def flush(self) -> None:
        """Standard output's."""
        sys.stdout.flush()


def out() -> Console:
    """Standard output, for people; where it is not a terminal, nothing is cut to fit one."""
    if sys.stdout.isatty():
        return Console(emoji=False, soft_wrap=True)
    return Console(emoji=False, soft_wrap=True, width=WIDE, file=cast(IO[str], _Unpadded()))


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
