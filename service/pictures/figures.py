"""The pictures of a search as plotly figures: plain values under plotly's names.

The dashboard sends every figure with every poll of a page, so figures are kept small: numbers are rounded to what can
be seen, curves of one kind share one trace, and no template comes with them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ropewalk.wire.pictures import FactorsPicture, NeedleCell, RaceLine, SearchPictures, TrialPoints
from service.pictures import style

Trace = dict[str, Any]
Figure = dict[str, Any]
"""`data` and `layout`, as plotly's `Figure` takes them."""

DIGITS = 4  # significant ones
GRID_COLOUR = "#e5e7eb"

# -- factors ---------------------------------------------------------------------------------------------------------


def factors_figure(pictures: SearchPictures) -> Figure:
    """Rescale factor over pair index, log2 scale, with the critical pairs and the scale."""
    picture = pictures.factors
    low, high = style.factor_range(picture)
    traces = [
        _line(curve.name, range(len(curve.factors)), curve.factors, style.baseline_colour(curve.name), width=width)
        for curve, width in style.with_widths(picture.baselines)
    ]
    traces += _factor_marks(picture, low, high)
    if (leader := picture.leader) is not None:
        name = style.leader_label(pictures, leader.name)
        curve = _line(name, range(len(leader.factors)), leader.factors, style.LEADER_COLOUR, width=3)
        traces.append({**curve, "mode": "lines+markers", "marker": {"size": 6}})
    layout = _layout(style.factors_title(pictures), "", "pair (fast to slow)", "rescale factor (long_factor)")
    layout["yaxis"] |= _log_axis(low, high, style.powers_of_2(high))
    return _figure(traces, layout)


def _factor_marks(picture: FactorsPicture, low: float, high: float) -> list[Trace]:
    upright = [
        _line(name, (pair, pair), (low, high), colour, dash=dash) for name, pair, colour, dash in style.marks(picture)
    ]
    last = max((len(curve.factors) - 1 for curve in picture.baselines), default=0)
    if picture.scale is None or last == 0:
        return upright
    level = (picture.scale, picture.scale)
    return [*upright, _line(style.scale_label(picture.scale), (0, last), level, "black", dash="dot")]


# -- best so far -----------------------------------------------------------------------------------------------------


def best_so_far_figure(pictures: SearchPictures) -> Figure:
    """Search NLL over tokens read: candidates, the best so far, the best baselines."""
    picture = pictures.best_so_far
    traces = []
    if picture.points.trials:
        traces.append(_dots(picture.points))
    if picture.best.trials:
        traces.append(_steps(picture.best, until=picture.tokens))
    for level in picture.baselines[: style.BEST_BASELINES]:
        ends, nll = (0, picture.tokens), (style.drawn_nll(level.nll),) * 2
        traces.append(_line(level.name, ends, nll, style.baseline_colour(level.name), dash="dash"))
    layout = _layout("Best so far", style.best_so_far_note(pictures), style.TOKENS_AXIS, style.NLL_AXIS)
    low, high = style.best_so_far_range(pictures)
    layout["yaxis"] |= _log_axis(low, high, style.log_ticks(low, high))
    layout["xaxis"] |= {"rangemode": "tozero"}
    return _figure(traces, layout)


def _dots(points: TrialPoints) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "candidates",
        "x": list(points.tokens),
        "y": [_rounded(style.drawn_nll(nll)) for nll in points.nll],
        "customdata": list(zip(points.trials, points.passes, strict=True)),
        "hovertemplate": "trial %{customdata[0]}<br>%{y} nats after %{x} tokens<br>"
        "%{customdata[1]} passes<extra></extra>",
        "marker": {"color": style.POINT_COLOUR, "size": 4},
    }


def _steps(best: TrialPoints, *, until: int) -> Trace:
    nll = [style.drawn_nll(value) for value in best.nll]
    trace = _line("best so far", (*best.tokens, until), (*nll, nll[-1]), style.LEADER_COLOUR, width=2.5)
    trace["line"]["shape"] = "hv"
    return trace


# -- race ------------------------------------------------------------------------------------------------------------


def race_figure(pictures: SearchPictures) -> Figure:
    """Running mean NLL over the number of documents: raced-out candidates behind, baselines and the leader in front."""
    by_role = {role: [line for line in pictures.race.lines if line.role == role] for role in style.ROLES}
    traces = [
        _bundle("raced out", by_role["raced_out"], style.RACED_OUT_COLOUR),
        _bundle("candidates", by_role["survivor"], style.SURVIVOR_COLOUR),
        *(_racer(line.name, line, style.baseline_colour(line.name), 1.6) for line in by_role["baseline"]),
        *(_racer(style.leader_label(pictures, line.name), line, style.LEADER_COLOUR, 3) for line in by_role["leader"]),
    ]
    layout = _layout("Race by document", style.race_note(pictures), "search documents scored", style.NLL_AXIS)
    low, high = style.race_range(pictures)
    layout["yaxis"] |= _log_axis(low, high, style.log_ticks(low, high))
    return _figure([trace for trace in traces if trace["x"]], layout)


def _racer(name: str, line: RaceLine, colour: str, width: float) -> Trace:
    return _line(name, line.documents, [style.drawn_nll(nll) for nll in line.nll], colour, width=width)


def _bundle(name: str, lines: Iterable[RaceLine], colour: str) -> Trace:
    """Many lines as one trace, a gap after each."""
    x: list[float | None] = []
    y: list[float | None] = []
    trials: list[int] = []
    for line in lines:
        x += [*line.documents, None]
        y += [*(style.drawn_nll(nll) for nll in line.nll), None]
        trials += [line.trial] * (len(line.documents) + 1)
    hover = {"customdata": trials, "hovertemplate": "trial %{customdata}<br>%{y} nats<extra></extra>"}
    return {**_line(name, x, y, colour, width=1), **hover}


# -- needles ---------------------------------------------------------------------------------------------------------


def needles_figure(pictures: SearchPictures) -> Figure | None:
    """NLL and exact match of held-out documents by needle depth and contender; None while nothing is decided."""
    if pictures.needles is None:
        return None
    columns = pictures.needles.columns
    rows = list(zip(*(column.cells for column in columns), strict=True))
    heat = {
        "type": "heatmap",
        "x": [style.column_label(column).replace("\n", "<br>") for column in columns],
        "y": [style.bin_label(row[0].low, row[0].high) for row in rows],
        "z": [[_rounded(cell.nll) for cell in row] for row in rows],
        "text": [[_needle_text(cell) for cell in row] for row in rows],
        "texttemplate": "%{text}",
        "colorscale": style.HEAT_SCALE,
        "zmin": 0,
        "zmax": _rounded(style.heat_limit(columns)),
        "colorbar": {"title": {"text": "NLL"}},
    }
    layout = _layout("Needles by depth", style.NEEDLES_NOTE, "", style.DEPTH_AXIS)
    layout["yaxis"] |= {"autorange": "reversed", "showgrid": False, "type": "category"}
    return _figure([heat], layout)


def _needle_text(cell: NeedleCell) -> str:
    return style.cell_label(cell).replace("\n", "<br>")


# -- shared ----------------------------------------------------------------------------------------------------------


def _line(
    name: str,
    x: Iterable[float | None],
    y: Iterable[float | None],
    colour: str,
    *,
    width: float = 1.4,
    dash: str = "solid",
) -> Trace:
    line: dict[str, object] = {"color": colour, "width": width, "dash": dash}
    return {"type": "scatter", "mode": "lines", "name": name, "x": list(x), "y": [_rounded(v) for v in y], "line": line}


def _figure(traces: list[Trace], layout: dict[str, Any]) -> Figure:
    if not traces:
        layout["annotations"] = [{"text": style.NOTHING_YET, "showarrow": False, "xref": "paper", "yref": "paper"}]
    return {"data": traces, "layout": layout}


def _layout(title: str, note: str, x: str, y: str) -> dict[str, Any]:
    axis = {"gridcolor": GRID_COLOUR, "zeroline": False, "automargin": True}
    return {
        "title": {"text": title, "subtitle": {"text": note}, "x": 0.02, "font": {"size": 15}},
        "xaxis": {**axis, "title": {"text": x, "standoff": 8}},
        "yaxis": {**axis, "title": {"text": y, "standoff": 12}},
        "legend": {"orientation": "h", "y": -0.22, "font": {"size": 10}},
        "margin": {"l": 60, "r": 20, "t": 70, "b": 40},
        "template": {},
    }


def _log_axis(low: float, high: float, ticks: Sequence[float]) -> dict[str, object]:
    ends = [math.log10(low), math.log10(high)]
    return {"type": "log", "range": ends, "tickvals": list(ticks), "ticktext": [f"{tick:g}" for tick in ticks]}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


#: By graph id; the dashboard replaces a figure by its id.
FIGURES: Mapping[str, Callable[[SearchPictures], Figure | None]] = {
    "factors": factors_figure,
    "best-so-far": best_so_far_figure,
    "race": race_figure,
    "needles": needles_figure,
}
