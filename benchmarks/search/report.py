"""The table and the plot of the benchmark, from the runs that are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import TypeAdapter

from benchmarks.search.methods import LENGTHS, METHODS, SEEDS, Cell, Returned
from evaluation.scores.score import DocumentScore, paired_difference

COLOURS = ("#c1121f", "#1d3557", "#457b9d", "#2a9d8f", "#e9a23b", "#7f5539", "#6d597a", "#588157", "#b56576", "#8d99ae")
SHOWN_LINES = ("baseline:mrrope_pro", "baseline:yarn", "baseline:yarn+attention", "baseline:mrrope_pro+YaRN's factor")
CURVES = ("auto", "reference A=1", "reference su", "TPE", "CMA-ES", "GP", "random", "gradient")


def load(cell: Cell, store: Path) -> tuple[Returned, ...]:
    """What the cell came to; nothing when it was not run."""
    path = cell.path(store)
    if not path.exists():
        return ()
    return TypeAdapter(tuple[Returned, ...]).validate_json(path.read_text(encoding="utf-8"))


def write_report(store: Path, path: Path) -> None:
    """Write `path`.md and `path`.png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [_section(length, store) for length in LENGTHS]
    path.with_suffix(".md").write_text("\n".join(part for part in parts if part), encoding="utf-8")
    figure = Figure(figsize=(13.0, 6.4), layout="constrained")
    for axes, length in zip(figure.subplots(1, len(LENGTHS)), LENGTHS, strict=True):
        _draw(axes, length, store)
    figure.savefig(path.with_suffix(".png"), dpi=130)


# -- the table ---------------------------------------------------------------------------------------------------------


def _section(length: int, store: Path) -> str:
    baselines = load(Cell(method="baselines", length=length, seed=0), store)
    if not baselines:
        return ""
    lines = [
        f"## {length // 256}L ({length} tokens)",
        "",
        "| baseline | A | NLL | exact match | documents |",
        "|---|---|---|---|---|",
    ]
    for one in sorted(baselines, key=_nll):
        name = one.origin.removeprefix("baseline:")
        nll = f"{_nll(one):.4f} ± {_error(one):.4f}"
        lines.append(f"| {name} | {one.attention_factor:.3f} | {nll} | {one.exact_match:.1%} | {len(one.held_out)} |")
    best = min((one for one in baselines if "YaRN's" not in one.origin), key=_nll)
    lines += ["", f"Best baseline with its own attention factor: {best.origin.removeprefix('baseline:')}.", ""]
    lines += [
        "| strategy | kind | seeds | passes | NLL: median [least, most] | exact match | against the best baseline |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in METHODS:
        lines += _rows(method.label, method.about, length, store, best)
    return "\n".join([*lines, ""])


def _rows(label: str, about: str, length: int, store: Path, best: Returned) -> Iterable[str]:
    runs = [load(Cell(method=label, length=length, seed=seed), store) for seed in SEEDS]
    runs = [run for run in runs if run]
    for kind in ("before validation", "final", "bred only"):
        found = [one for run in runs for one in run if one.kind == kind]
        if found:
            nll = sorted(_nll(one) for one in found)
            passes = round(float(np.median([one.passes for one in found])))
            exact = float(np.median([one.exact_match or 0.0 for one in found]))
            against = "; ".join(_against(one, best) for one in found)
            yield (
                f"| {label} ({about}) | {kind} | {len(found)} | {passes} | {np.median(nll):.4f} [{nll[0]:.4f}, "
                f"{nll[-1]:.4f}] | {exact:.1%} | {against} |"
            )


def _against(one: Returned, best: Returned) -> str:
    """Relative change and the paired interval, both on the documents that both were scored on."""
    count = min(len(one.held_out), len(best.held_out))
    mine, theirs = (_scores(values[:count]) for values in (one.held_out, best.held_out))
    found = paired_difference(mine, theirs)
    relative = found.mean / float(np.mean(best.held_out[:count]))
    return f"{relative:+.0%} [{found.low:+.3f}, {found.high:+.3f}]"


def _scores(values: Sequence[float]) -> list[DocumentScore]:
    return [
        DocumentScore(document_id=str(index), nats=value, tokens=1, exact=False) for index, value in enumerate(values)
    ]


def _nll(one: Returned) -> float:
    return float(np.mean(one.held_out))


def _error(one: Returned) -> float:
    return float(np.std(one.held_out, ddof=1) / np.sqrt(len(one.held_out)))


# -- the plot ----------------------------------------------------------------------------------------------------------


def _draw(axes: Axes, length: int, store: Path) -> None:
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    baselines = {one.origin: one for one in load(Cell(method="baselines", length=length, seed=0), store)}
    for style, origin in zip(("-", "--", "-.", ":"), SHOWN_LINES, strict=True):
        if origin in baselines:
            label = origin.removeprefix("baseline:")
            axes.axhline(_nll(baselines[origin]), color="black", linewidth=0.9, linestyle=style, label=label)
    floor = [one for one in load(Cell(method="large budget", length=length, seed=0), store) if one.kind == "final"]
    if floor:
        label = f"large budget: {floor[0].passes:,} passes, 200 documents"
        axes.axhline(_nll(floor[0]), color="#c1121f", linewidth=0.9, linestyle=(0, (1, 3)), label=label)
    for colour, label in zip(COLOURS, CURVES, strict=False):
        _draw_curve(axes, label, colour, [load(Cell(method=label, length=length, seed=s), store) for s in SEEDS])
    axes.set(xscale="log", yscale="log", xlabel="document passes", title=f"{length // 256}L, {length} tokens")
    axes.set_ylabel("held-out NLL of what would be returned (nats per answer token)")
    axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12))  # below: it hides no curve


def _draw_curve(axes: Axes, label: str, colour: str, runs: Sequence[Sequence[Returned]]) -> None:
    """Median over seeds at each checkpoint with the range as a band; the end as a large dot."""
    points: dict[int, list[float]] = {}
    ends: list[tuple[int, float]] = []
    for run in runs:
        for one in run:
            if one.kind == "checkpoint" and one.origin:
                points.setdefault(one.passes, []).append(_nll(one))
            if one.kind == "final":
                ends.append((one.passes, _nll(one)))
    if not ends:
        return
    end = (float(np.median([passes for passes, _ in ends])), [nll for _, nll in ends])
    x = [*sorted(points), end[0]]
    groups = [*(points[passes] for passes in sorted(points)), end[1]]
    axes.plot(x, [np.median(group) for group in groups], color=colour, linewidth=1.6, label=f"{label} (n={len(ends)})")
    axes.fill_between(x, [min(g) for g in groups], [max(g) for g in groups], color=colour, alpha=0.12, linewidth=0)
    axes.plot(*end[:1], np.median(end[1]), "o", color=colour, markersize=6)
