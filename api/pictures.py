"""The pictures of a search and of an evaluation, as PNG files. Drawing only: every number comes from the service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from search_space.critical_pair import theoretical_critical_pair
from search_space.factor_file import FactorFile
from search_space.rescale_factors import RescaleFactors
from search_space.rope import RopeConfig

DEPTH_BINS = 5
DPI = 130
FOUND_COLOUR = "#c1121f"
BASELINE_COLOURS = ("#8d99ae", "#457b9d", "#2a9d8f", "#e9a23b", "#7f5539", "#6d597a", "#588157", "#b56576")


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchPoint:
    """One finished trial, in the order in which it was proposed."""

    nll: float
    """Search NLL, nats per answer token."""
    documents: int
    """Document passes that the trial cost."""
    baseline: str | None
    """The baseline's name; None for a bred candidate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatMapRow:
    """One contender at one length: (depth in [0, 1], exact) of each document."""

    name: str
    length: int
    by_depth: tuple[tuple[float, bool], ...]


def draw_factor_curve(
    path: Path, *, rope: RopeConfig, file: FactorFile, baselines: Mapping[str, RescaleFactors]
) -> None:
    """Rescale factor over pair index: the found ones against the baselines, with the critical pairs."""
    figure, axes = _figure(8.0, 4.8)
    pairs = np.arange(rope.num_pairs)
    for (name, factors), colour in zip(baselines.items(), BASELINE_COLOURS, strict=False):
        axes.plot(pairs, factors.as_array(), label=name, color=colour, linewidth=1.2, alpha=0.9)
    axes.plot(
        pairs, file.long_factor.as_array(), label="found", color=FOUND_COLOUR, linewidth=2.4, marker="o", markersize=4
    )
    scale = file.target_length / file.original_max_position_embeddings
    axes.axhline(scale, color="black", linewidth=0.8, linestyle=":", label=f"s = {scale:g}")
    axes.axvline(theoretical_critical_pair(rope), color="black", linewidth=0.8, linestyle="--", label="theoretical c")
    if file.critical_pair is not None:
        axes.axvline(file.critical_pair, color=FOUND_COLOUR, linewidth=0.8, linestyle="--", label="found c")
    axes.set_yscale("log", base=2)
    axes.set_ylim(0.9, max(4.0 * scale, 1.1 * float(file.long_factor.values[-1])))
    axes.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    axes.set_xlabel("pair (fast to slow)")
    axes.set_ylabel("rescale factor (long_factor)")
    axes.set_title(f"{file.model.name}: {file.original_max_position_embeddings} to {file.target_length} tokens")
    axes.legend(fontsize=7, ncols=2)
    _save(figure, path)


def draw_best_so_far(path: Path, points: Sequence[SearchPoint]) -> None:
    """Search NLL of every bred candidate and the best so far, over document passes; the best baselines as lines."""
    figure, axes = _figure(8.0, 4.4)
    passes = np.cumsum([point.documents for point in points])
    bred = [(x, point.nll) for x, point in zip(passes, points, strict=True) if point.baseline is None]
    baselines = sorted((point.nll, point.baseline) for point in points if point.baseline is not None)
    if bred:
        x, y = np.array(bred, dtype=float).T
        axes.plot(x, y, ".", color="#8d99ae", markersize=5, label="candidates")
        axes.step(x, np.minimum.accumulate(y), where="post", color=FOUND_COLOUR, linewidth=2.0, label="best so far")
    for (nll, name), colour in zip(baselines[:3], BASELINE_COLOURS[1:], strict=False):
        axes.axhline(nll, color=colour, linewidth=1.0, linestyle="--", label=str(name))
    axes.set_yscale("log")
    axes.set_xlabel("document passes")
    axes.set_ylabel("search NLL (nats per answer token)")
    axes.set_title("Search: best so far (search documents, not held out)")
    axes.legend(fontsize=8)
    _save(figure, path)


def draw_needle_heat_map(path: Path, rows: Sequence[HeatMapRow]) -> None:
    """Exact match over depth and length, one panel a contender."""
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
    labels = [f"{100 * i // DEPTH_BINS}-{100 * (i + 1) // DEPTH_BINS} %" for i in range(DEPTH_BINS)]
    panels[0].set_yticks(range(DEPTH_BINS), labels, fontsize=7)
    panels[0].set_ylabel("needle depth", fontsize=8)
    figure.colorbar(image, ax=list(panels), label="exact match", shrink=0.9)
    _save(figure, path)


def _exact_by_depth(by_depth: Sequence[tuple[float, bool]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Share of exact documents in each of `DEPTH_BINS` equal bins; NaN where a bin is empty."""
    bins: list[list[bool]] = [[] for _ in range(DEPTH_BINS)]
    for depth, exact in by_depth:
        bins[min(DEPTH_BINS - 1, int(depth * DEPTH_BINS))].append(exact)
    return np.array([np.mean(inside) if inside else np.nan for inside in bins])


def _annotate(axes: Axes, grid: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    for (i, j), value in np.ndenumerate(grid):
        if not np.isnan(value):
            axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=7)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    # Figure, not pyplot: no global state, no display, safe in threads.
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": "ropewalk"})
