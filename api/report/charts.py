"""Charts of an evaluation as inline SVG: drawn in the page's own colours, so that they follow its light or dark."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 14.0, 12.0, 40.0
TICKS = 5
CELL_WIDTH, CELL_HEIGHT = 64.0, 30.0
SMALLEST = 1e-4  # a log axis has no zero


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One contender: (length, value) points, the longest last; `mark` is its CSS class."""

    name: str
    mark: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """What a chart's y axis shows. level: a value that is drawn as a line of its own, and what it is called."""

    label: str
    write: Callable[[float], str]
    logarithmic: bool = False
    low: float | None = None
    high: float | None = None
    level: tuple[float, str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatCell:
    """One cell of a heat map. share: in [0, 1], None without documents; title: what pointing at it tells."""

    share: float | None
    text: str
    title: str


def line_chart(lines: Sequence[Line], axis: Axis, *, switch: int | None = None) -> str:
    """Values over length, lengths on a log axis; `switch` marks the original length L. Lines in front come last."""
    lengths = sorted({length for line in lines for length, _ in line.points})
    x = _scale(math.log2(lengths[0]), math.log2(lengths[-1]), LEFT + 14, WIDTH - RIGHT - 14)
    low, high, ticks = _range(lines, axis)
    y = _scale(low, high, HEIGHT - BOTTOM, TOP)
    place = _log if axis.logarithmic else float
    parts = [_y_grid(y, ticks, axis), _x_ticks(lambda length: x(math.log2(length)), lengths)]
    if switch is not None and lengths[0] <= switch < lengths[-1]:
        parts.append(_upright(x(math.log2(switch)), "L"))
    if axis.level is not None and low <= axis.level[0] <= high:
        parts.append(_level(y(axis.level[0]), axis.level[1]))
    parts += [_line(line, lambda length: x(math.log2(length)), lambda value: y(place(value)), axis) for line in lines]
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text class="axis" transform="translate(13 {middle:.1f}) rotate(-90)">{escape(axis.label)}</text>')
    parts.append(f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2:.1f}" y="{HEIGHT - 4:.1f}">tokens</text>')
    title = escape(f"{axis.label} over length")
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{title}">{"".join(parts)}</svg>'
    )


def heat_map(columns: Mapping[str, Sequence[HeatCell]], rows: Sequence[str]) -> str:
    """Cells by column (a length) and row (a depth); the more, the stronger the colour."""
    left, top = 66.0, 22.0
    width, height = left + CELL_WIDTH * len(columns), top + CELL_HEIGHT * len(rows)
    parts = [
        f'<text class="tick end" x="{left - 8:.0f}" y="{top + (place + 0.62) * CELL_HEIGHT:.1f}">{escape(row)}</text>'
        for place, row in enumerate(rows)
    ]
    for column, (name, cells) in enumerate(columns.items()):
        at = left + column * CELL_WIDTH
        parts.append(f'<text class="tick" x="{at + CELL_WIDTH / 2:.1f}" y="14">{escape(name)}</text>')
        parts += [_cell(cell, at, top + row * CELL_HEIGHT) for row, cell in enumerate(cells)]
    box = f'viewBox="0 0 {width:g} {height:g}" style="width:{width:g}px" role="img" aria-label="by length and depth"'
    return f'<svg class="heat" {box}>{"".join(parts)}</svg>'


def tokens(length: int) -> str:
    """A length as people write it: 512, 4k, 128k."""
    return f"{length // 1024}k" if length >= 4096 and length % 1024 == 0 else str(length)


def _cell(cell: HeatCell, x: float, y: float) -> str:
    strength = 0.0 if cell.share is None else 0.08 + 0.92 * cell.share
    ink = "over" if strength > 0.55 else "under"
    box = f'x="{x + 1:.1f}" y="{y + 1:.1f}" width="{CELL_WIDTH - 2:g}" height="{CELL_HEIGHT - 2:g}" rx="4"'
    words = f'x="{x + CELL_WIDTH / 2:.1f}" y="{y + CELL_HEIGHT * 0.64:.1f}"'
    return (
        f'<g><title>{escape(cell.title)}</title><rect class="cell" {box} fill-opacity="{strength:.2f}"/>'
        f'<text class="{ink}" {words}>{escape(cell.text)}</text></g>'
    )


def _range(lines: Sequence[Line], axis: Axis) -> tuple[float, float, list[float]]:
    """(low, high, ticks) in axis units: powers of 10 on a log axis."""
    values = [value for line in lines for _, value in line.points]
    if axis.logarithmic:
        low, high = min(map(_log, values)), max(map(_log, values))
        pad = max(0.06 * (high - low), 0.02)
        low, high = low - pad, high + pad
        return low, high, _log_ticks(low, high)
    low = min(values) if axis.low is None else axis.low
    high = max(values) if axis.high is None else axis.high
    high = high if high > low else low + 1.0
    return low, high, [low + step * (high - low) / (TICKS - 1) for step in range(TICKS)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of 10 in the range; where these are many the powers alone, where few an even grid."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    for steps in ((1, 2, 5), (1,)):
        ticks = [math.log10(step) + decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= 2 * TICKS:
            break
    return ticks if len(ticks) >= 2 else [low + step * (high - low) / (TICKS - 1) for step in range(TICKS)]


def _log(value: float) -> float:
    return math.log10(max(value, SMALLEST))


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = high - low
    return lambda value: (start + end) / 2 if span == 0 else start + (value - low) / span * (end - start)


def _y_grid(y: Callable[[float], float], ticks: Sequence[float], axis: Axis) -> str:
    parts = []
    for tick in ticks:
        value = 10.0**tick if axis.logarithmic else tick
        at = y(tick)
        parts.append(f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 6:g}" y="{at + 4:.1f}">{axis.write(value)}</text>')
    return "".join(parts)


def _x_ticks(x: Callable[[int], float], lengths: Sequence[int]) -> str:
    y = HEIGHT - BOTTOM + 17
    return "".join(f'<text class="tick" x="{x(n):.1f}" y="{y:.1f}">{tokens(n)}</text>' for n in lengths)


def _upright(x: float, name: str) -> str:
    line = f'<line class="level" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP:g}" y2="{HEIGHT - BOTTOM:g}"/>'
    return f'{line}<text class="tick" x="{x + 8:.1f}" y="{TOP + 10:g}">{name}</text>'


def _level(y: float, name: str) -> str:
    line = f'<line class="level" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text class="tick end" x="{WIDTH - RIGHT:g}" y="{y - 5:.1f}">{escape(name)}</text>'


def _line(line: Line, x: Callable[[int], float], y: Callable[[float], float], axis: Axis) -> str:
    places = [(x(length), y(value), length, value) for length, value in line.points]
    path = " ".join(f"{at:.1f},{up:.1f}" for at, up, _, _ in places)
    dots = "".join(
        f'<circle cx="{at:.1f}" cy="{up:.1f}" r="3.5"><title>{escape(line.name)}, {length} tokens: '
        f"{axis.write(value)}</title></circle>"
        for at, up, length, value in places
    )
    return f'<g class="series {line.mark}"><polyline points="{path}"/>{dots}</g>'
