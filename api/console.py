"""What the command line prints: for people on a terminal, or JSON for programs."""

import json
import math
import sys
from collections.abc import Mapping, Sequence

from pydantic import BaseModel
from rich.console import Console

WIDE = 200  # columns


def out() -> Console:
    """Standard output, for people; where it is not a terminal, nothing is cut to fit one."""
    return Console(soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)


def err() -> Console:
    """Standard error: progress and notes."""
    return Console(stderr=True)


def note(text: str) -> None:
    """One line of standard error for whoever reads the result."""
    err().print(f"note: {text}", markup=False, highlight=False, soft_wrap=True)


def large(number: float) -> str:
    """Three digits and k, M, G, T or P: numbers of tokens and of operations are read, not compared digit by digit."""
    number = float(f"{number:.3g}")
    power = min(max(int(math.log10(number) // 3), 0), 5) if number >= 1 else 0
    return f"{number / 1000**power:.3g}{['', 'k', 'M', 'G', 'T', 'P'][power]}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, two digits of what matters."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.3g} h"


def print_json(value: BaseModel | Mapping[str, object] | Sequence[object]) -> None:
    """One JSON document on one line."""
    text = value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value, allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_line(text: str) -> None:
    """One line of standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
