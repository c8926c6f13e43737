"""What the report's sections share: tables over contenders, and how numbers are written."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from api.report.charts import tokens
from search_space.candidates.baselines import BASELINE_NAMES

NOTHING = "-"
HIGHLIGHTED = ("found factors", "fine-tuned")
_TITLES = {"none": "base (no scaling)"}
_MARKS = {"found factors": "found", "fine-tuned": "finetuned", **{name: name for name in BASELINE_NAMES}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a table over contenders. best: max or min of what is best, None where nothing is."""

    title: str
    values: Mapping[str, float | None]
    write: Callable[[float], str]
    best: Callable[[Iterable[float]], float] | None = max


def table(names: Sequence[str], columns: Sequence[Column]) -> str:
    """A row for each contender; the best of a column stands out where not all are equal."""
    head = "".join(f"<th>{escape(column.title)}</th>" for column in columns)
    rows = "".join(
        f"<tr><td>{contender(name)}</td>{''.join(_value(column, name) for column in columns)}</tr>" for name in names
    )
    return f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _value(column: Column, name: str) -> str:
    value = column.values.get(name)
    if value is None:
        return f"<td>{NOTHING}</td>"
    known = [one for one in column.values.values() if one is not None]
    is_best = column.best is not None and len(set(known)) > 1 and value == column.best(known)
    return f'<td class="best">{column.write(value)}</td>' if is_best else f"<td>{column.write(value)}</td>"


def contender(name: str) -> str:
    """A contender with its colour."""
    strong = ' class="strong"' if name in HIGHLIGHTED else ""
    return f'<span class="chip {mark_of(name)}"></span><span{strong}>{escape(title_of(name))}</span>'


def title_of(name: str) -> str:
    """A contender's name in the report."""
    return _TITLES.get(name, name)


def mark_of(name: str) -> str:
    """A contender's CSS class: its colour."""
    return _MARKS.get(name, "other")


def percent(value: float) -> str:
    """Of a number that is in percent."""
    return f"{value:.1f} %"


def share(value: float) -> str:
    """Of a number in [0, 1]."""
    return f"{100 * value:.1f} %"


def nats(value: float) -> str:
    """NLL: small ones differ in later digits."""
    return f"{value:.4f}" if value < 1 else f"{value:.2f}"


def length_of(value: float) -> str:
    """Of a length in tokens."""
    return tokens(int(value))


def two_places(value: float) -> str:
    """Of a perplexity, which may be huge."""
    return f"{value:.2f}" if value < 1000 else f"{value:.3g}"
