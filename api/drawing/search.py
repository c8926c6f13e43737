"""The pictures of a search and of an evaluation, as PNG files. Drawing only: every number comes from the service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from ropewalk.wire.pictures import BestSoFarPicture, FactorsPicture, NeedleColumn, RaceLine, SearchPictures
from service.pictures import style

DEPTH_BINS = 5
DPI = 130
DASHES = {"dash": "--", "dashdot": "-.", "dot": ":"}  # plotly's names, which the style has, as matplotlib's


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatMapRow:
    """One contender of an evaluation at one length: (depth in [0, 1], exact) of each document."""

    name: str
    length: int
    by_depth: tuple[tuple[float, bool], ...]


def draw_search(directory: Path, pictures: SearchPictures) -> dict[str, Path]:
    """Write `<name>.png` of each picture into `directory`; needles only once they are there. The paths by name.

    Raises:
        OSError: a file cannot be written.
    """
    draws = {"factors": draw_factors, "best-so-far": draw_best_so_far, "race": draw_race}
    if pictures.needles is not None:
        draws["needles"] = draw_needles
    paths = {name: directory / f"{name}.png" for name in draws}
    for name, draw in draws.items():
        draw(paths[name], pictures)
    return paths


# -- factors ---------------------------------------------------------------------------------------------------------


def draw_factors(path: Path, pictures: SearchPictures) -> None:
    """Rescale factor over pair index: the leader's against the baselines', with the critical pairs and the scale."""
    picture = pictures.factors
    figure, axes = _figure(9.5, 5.0)
    for curve, width in style.with_widths(picture.baselines):
        axes.plot(curve.factors, label=curve.name, color=style.baseline_colour(curve.name), linewidth=width)
    _mark(axes, picture)
    if picture.leader is not None:
        label = style.leader_label(pictures, picture.leader.name)
        axes.plot(picture.leader.factors, "o-", label=label, color=style.LEADER_COLOUR, linewidth=2.4, markersize=4)
    low, high = style.factor_range(picture)
    axes.set_yscale("log", base=2)
    axes.set_ylim(low, high)
    axes.set_yticks(style.powers_of_2(high), [f"{tick:g}" for tick in style.powers_of_2(high)])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(
        figure, axes, path, "", "pair (fast to slow)", "rescale factor (long_factor)", style.factors_title(pictures)
    )


def _mark(axes: Axes, picture: FactorsPicture) -> None:
    if picture.scale is not None:
        axes.axhline(picture.scale, color="black", linewidth=0.9, linestyle=":", label=style.scale_label(picture.scale))
    for label, pair, colour, dash in style.marks(picture):
        axes.axvline(pair, color=colour, linewidth=0.9, linestyle=DASHES[dash], label=label)


# -- best so far -----------------------------------------------------------------------------------------------------


def draw_best_so_far(path: Path, pictures: SearchPictures) -> None:
    """Search NLL of bred candidates and the best so far, over tokens read; the best baselines as levels."""
    picture = pictures.best_so_far
    figure, axes = _figure(9.5, 4.6)
    if picture.best.trials:
        _plot_progress(axes, picture)
    for level in picture.baselines[: style.BEST_BASELINES]:
        colour = style.baseline_colour(level.name)
        axes.axhline(_drawn([level.nll])[0], color=colour, linewidth=1.2, linestyle="--", label=level.name)
    _log_axis(axes, *style.best_so_far_range(pictures))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter())
    _finish(figure, axes, path, style.best_so_far_note(pictures), style.TOKENS_AXIS, style.NLL_AXIS, "Best so far")


def _plot_progress(axes: Axes, picture: BestSoFarPicture) -> None:
    points, best = picture.points, picture.best
    axes.plot(points.tokens, _drawn(points.nll), ".", color=style.POINT_COLOUR, markersize=4, label="candidates")
    if best.trials:
        tokens, nll = [*best.tokens, picture.tokens], _drawn([*best.nll, best.nll[-1]])
        axes.step(tokens, nll, where="post", color=style.LEADER_COLOUR, linewidth=2.0, label="best so far")


# -- race ------------------------------------------------------------------------------------------------------------


def draw_race(path: Path, pictures: SearchPictures) -> None:
    """Running mean NLL over documents: raced-out candidates behind, baselines and the leader in front."""
    figure, axes = _figure(9.5, 5.0)
    for role in style.ROLES[::-1]:
        for line in (line for line in pictures.race.lines if line.role == role):
            axes.plot(line.documents, _drawn(line.nll), **_line_style(pictures, line))
    _log_axis(axes, *style.race_range(pictures))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(
        figure, axes, path, style.race_note(pictures), "search documents scored", style.NLL_AXIS, "Race by document"
    )


def _line_style(pictures: SearchPictures, line: RaceLine) -> dict[str, Any]:
    if line.role == "leader":
        label = style.leader_label(pictures, line.name)
        return {"label": label, "color": style.LEADER_COLOUR, "linewidth": 2.4, "marker": "o", "markersize": 3}
    if line.role == "baseline":
        return {"label": line.name, "color": style.baseline_colour(line.name), "linewidth": 1.4}
    if line.role == "survivor":
        return {"label": "candidates", "color": style.SURVIVOR_COLOUR, "linewidth": 0.7}
    return {"label": "raced out", "color": style.RACED_OUT_COLOUR, "linewidth": 0.7}


# -- needles ---------------------------------------------------------------------------------------------------------


def draw_needles(path: Path, pictures: SearchPictures) -> None:
    """NLL and exact match of held-out documents over needle depth, one column a contender."""
    assert pictures.needles is not None  # `draw_search` asks only then
    columns = pictures.needles.columns
    figure = Figure(figsize=(2.6 + 2.0 * len(columns), 4.8), layout="constrained")
    axes = figure.subplots()
    grid = np.array([[_or_nan(cell.nll) for cell in column.cells] for column in columns]).T
    limit = style.heat_limit(columns)
    image = axes.imshow(grid, vmin=0.0, vmax=limit, cmap=style.HEAT_SCALE, aspect="auto")
    _annotate_cells(axes, columns, dark_above=0.6 * limit)
    axes.set_xticks(range(len(columns)), [style.column_label(column) for column in columns], fontsize=8)
    _label_depths(axes, [style.bin_label(cell.low, cell.high) for cell in columns[0].cells], style.DEPTH_AXIS)
    figure.suptitle("Needles by depth", fontsize=11)
    axes.set_title(style.NEEDLES_NOTE, fontsize=7)
    figure.colorbar(image, ax=axes, label=style.NLL_AXIS, shrink=0.9)
    _save(figure, path)


def _annotate_cells(axes: Axes, columns: Sequence[NeedleColumn], *, dark_above: float) -> None:
    for j, column in enumerate(columns):
        for i, cell in enumerate(column.cells):
            colour = "white" if _or_nan(cell.nll) > dark_above else "black"
            axes.text(j, i, style.cell_label(cell), ha="center", va="center", fontsize=8, color=colour)


def draw_needle_heat_map(path: Path, rows: Sequence[HeatMapRow]) -> None:
    """Exact match of an evaluation over depth and length, one panel a contender."""
    names = list(dict.fromkeys(row.name for row in rows))
    lengths = sorted({row.length for row in rows})
    figure = Figure(figsize=(1.2 + 2.3 * len(names), 3.6), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        grid = np.full((DEPTH_BINS, len(lengths)), np.nan)
        for row in rows:
            if row.name == name:
                grid[:, lengths.index(row.length)] = _exact_by_depth(row.by_depth)
        image = axes.imshow(grid, vmin=0.0, vmax=1.0, cmap="RdYlGn", aspect="auto")
        _annotate(axes, grid)
        axes.set_xticks(range(len(lengths)), [str(length) for length in lengths], fontsize=7)
        axes.set_yticks([])
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("length (tokens)", fontsize=8)
    bins = [style.bin_label(i / DEPTH_BINS, (i + 1) / DEPTH_BINS) for i in range(DEPTH_BINS)]
    _label_depths(panels[0], bins, "needle depth")
    figure.colorbar(image, ax=list(panels), label="exact match", shrink=0.9)
    _save(figure, path)


def _exact_by_depth(by_depth: Sequence[tuple[float, bool]]) -> NDArray[np.float64]:
    """Share of exact documents in each of `DEPTH_BINS` equal bins, (bins,); NaN where a bin is empty."""
    bins: list[list[bool]] = [[] for _ in range(DEPTH_BINS)]
    for depth, exact in by_depth:
        bins[min(DEPTH_BINS - 1, int(depth * DEPTH_BINS))].append(exact)
    return np.array([np.mean(inside) if inside else np.nan for inside in bins])


def _annotate(axes: Axes, grid: NDArray[np.float64]) -> None:
    for (i, j), value in np.ndenumerate(grid):
        if not np.isnan(value):
            axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=7)


def _label_depths(axes: Axes, labels: Sequence[str], name: str) -> None:
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.set_ylabel(name, fontsize=8)


# -- shared ----------------------------------------------------------------------------------------------------------


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _drawn(nll: Sequence[float]) -> list[float]:
    return [style.drawn_nll(value) for value in nll]


def _log_axis(axes: Axes, low: float, high: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    ticks = style.log_ticks(low, high)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.yaxis.set_minor_formatter(NullFormatter())


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    # Figure, not pyplot: no global state, no display, safe in threads.
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    return figure, axes


def _finish(figure: Figure, axes: Axes, path: Path, note: str, x: str, y: str, title: str) -> None:
    """Words around the axes, each legend entry once; a picture without anything says so."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    figure.suptitle(title, fontsize=11)
    axes.set_title(note, fontsize=8)
    entries: Mapping[str, Any] = {
        label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if entries:
        figure.legend(entries.values(), entries.keys(), fontsize=8, loc="outside right upper", frameon=False)
    else:
        axes.text(0.5, 0.5, style.NOTHING_YET, ha="center", va="center", transform=axes.transAxes)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": "ropewalk"})
