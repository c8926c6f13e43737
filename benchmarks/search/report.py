"""The table and the plot of the benchmark, from the runs that are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import TypeAdapter

from benchmarks.search.methods import METHODS, ORIGINAL_LENGTH, SEEDS, Cell, Returned
from evaluation.scores.score import DocumentScore, paired_difference

COLOURS = matplotlib.colormaps["tab10"](range(10))
SHOWN_LINES = ("baseline:mrrope_pro", "baseline:yarn", "baseline:yarn+attention", "baseline:mrrope_pro+YaRN's factor")
CURVES = ("auto", "two kinds", "reference A=1", "reference su", "TPE", "CMA-ES", "GP", "random", "gradient")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A model and a target length."""

    model: str
    length: int

    @property
    def title(self) -> str:
        """Of a section and a picture."""
        return f"{Path(self.model).name}, {self.length // ORIGINAL_LENGTH}L ({self.length:,} tokens)"

    def load(self, method: str, store: Path, *, seed: int = 0) -> tuple[Returned, ...]:
        """What the cell came to; nothing when it was not run."""
        path = Cell(model=self.model, method=method, length=self.length, seed=seed).path(store)
        if not path.exists():
            return ()
        return TypeAdapter(tuple[Returned, ...]).validate_json(path.read_text(encoding="utf-8"))

    def runs(self, method: str, store: Path) -> list[tuple[Returned, ...]]:
        """Of all seeds."""
        return [self.load(method, store, seed=seed) for seed in SEEDS]


def write_report(store: Path, models: Sequence[str], lengths: Sequence[int], path: Path) -> None:
    """Write `path`.md and `path`.png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    places = [Place(model=model, length=length) for model in models for length in lengths]
    places = [place for place in places if place.load("baselines", store)]
    path.with_suffix(".md").write_text("\n".join(_section(place, store) for place in places), encoding="utf-8")
    rows = -(-len(places) // 2)
    figure = Figure(figsize=(13.0, 6.4 * rows), layout="constrained")
    for axes, place in zip(figure.subplots(rows, 2, squeeze=False).flat, places, strict=False):
        _draw(axes, place, store)
    figure.savefig(path.with_suffix(".png"), dpi=130 if rows == 1 else 80)


# -- the table ---------------------------------------------------------------------------------------------------------


def _section(place: Place, store: Path) -> str:
    baselines = place.load("baselines", store)
    lines = [
        f"## {place.title}",
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
        "| strategy | kind | seeds | passes | tokens | NLL: median [least, most] | exact match | against the best "
        "baseline |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in METHODS:
        lines += _rows(method.label, method.about, place, store, best)
    return "\n".join([*lines, ""])


def _rows(label: str, about: str, place: Place, store: Path, best: Returned) -> Iterable[str]:
    runs = place.runs(label, store)
    for kind in ("before validation", "best shape", "final", "bred only"):
        found = [one for run in runs for one in run if one.kind == kind]
        if found:
            nll = sorted(_nll(one) for one in found)
            passes, tokens = (round(float(np.median([of(one) for one in found]))) for of in (_passes, _tokens))
            exact = float(np.median([one.exact_match or 0.0 for one in found]))
            against = "; ".join(_against(one, best) for one in found)
            yield (
                f"| {label} ({about}) | {kind} | {len(found)} | {passes:,} | {tokens:,} | {np.median(nll):.4f} "
                f"[{nll[0]:.4f}, {nll[-1]:.4f}] | {exact:.1%} | {against} |"
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


def _passes(one: Returned) -> int:
    return one.passes


def _tokens(one: Returned) -> int:
    return one.tokens


def _nll(one: Returned) -> float:
    return float(np.mean(one.held_out))


def _error(one: Returned) -> float:
    return float(np.std(one.held_out, ddof=1) / np.sqrt(len(one.held_out)))


# -- the plot ----------------------------------------------------------------------------------------------------------


def _draw(axes: Axes, place: Place, store: Path) -> None:
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    baselines = {one.origin: one for one in place.load("baselines", store)}
    for style, origin in zip(("-", "--", "-.", ":"), SHOWN_LINES, strict=True):
        if origin in baselines:
            label = origin.removeprefix("baseline:")
            axes.axhline(_nll(baselines[origin]), color="black", linewidth=0.9, linestyle=style, label=label)
    floor = [one for one in place.load("large budget", store) if one.kind == "final"]
    if floor:
        label = f"large budget: {floor[0].tokens:,} tokens, 200 documents"
        axes.axhline(_nll(floor[0]), color="#c1121f", linewidth=0.9, linestyle=(0, (1, 3)), label=label)
    for colour, label in zip(COLOURS, CURVES, strict=False):
        _draw_curve(axes, label, colour, place.runs(label, store))
    axes.set(xscale="log", yscale="log", xlabel="tokens read", title=place.title)
    axes.set_ylabel("held-out NLL of what would be returned (nats per answer token)")
    axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12))  # below: it hides no curve


def _draw_curve(axes: Axes, label: str, colour: str, runs: Sequence[Sequence[Returned]]) -> None:
    """Median over seeds at each checkpoint with the range as a band; the end as a large dot."""
    points: dict[int, list[float]] = {}
    ends: list[tuple[int, float]] = []
    for run in runs:
        for one in run:
            if one.kind == "checkpoint" and one.origin:
                points.setdefault(one.tokens, []).append(_nll(one))
            if one.kind == "final":
                ends.append((one.tokens, _nll(one)))
    if not ends:
        return
    end = (float(np.median([tokens for tokens, _ in ends])), [nll for _, nll in ends])
    x = [*sorted(points), end[0]]
    groups = [*(points[tokens] for tokens in sorted(points)), end[1]]
    axes.plot(x, [np.median(group) for group in groups], color=colour, linewidth=1.6, label=f"{label} (n={len(ends)})")
    axes.fill_between(x, [min(g) for g in groups], [max(g) for g in groups], color=colour, alpha=0.12, linewidth=0)
    axes.plot(*end[:1], np.median(end[1]), "o", color=colour, markersize=6)
