"""The tables and the plot of `benchmarks/extend/running.py`, from the cells that are there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.extend.arms import ARMS, EXTENDED, HELD_OUT, LENGTHS, WINDOWS, Bench, Cell, Outcome
from benchmarks.extend.stability import Stretch
from benchmarks.measuring import Measured
from evaluation.documents.windows import summarise_windows
from evaluation.scores.score import paired_difference, summarise

Outcomes = dict[int, Outcome]
"""Of one arm, by seed."""

SHORT = LENGTHS[0]
TARGETS = {1024: 0.95, 2048: 0.90}
TABLES = "<!-- tables -->"
KEPT = 0.015  # of the unchanged model's exact match and perplexity, within the original length
PAIRS = (
    (EXTENDED, "found"),
    (EXTENDED, "found, 60 steps"),
    (EXTENDED, "YaRN, mixed"),
    (EXTENDED, "NTK, mixed"),
    (EXTENDED, "none, mixed"),
    (EXTENDED, "found, long only"),
    ("found", "found by text"),
    (EXTENDED, "found by text, mixed"),
)
SHOWN = (
    "NTK",
    "NTK, mixed",
    "YaRN",
    "YaRN, mixed",
    "found by text",
    "found by text, mixed",
    "found",
    "found, long only",
    EXTENDED,
)


def write_report(cells: Sequence[Cell], path: Path) -> None:
    """Write `path`.md and `path`.png; what somebody wrote above the tables in an earlier `path`.md stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    by_bench: dict[Bench, list[Cell]] = {}
    for cell in cells:
        by_bench.setdefault(cell.bench, []).append(cell)
    loaded = {bench: _load(of_bench) for bench, of_bench in by_bench.items()}
    parts = []
    for bench, found in loaded.items():
        lengths = bench.lengths[1:]
        parts += [
            f"## {Path(bench.model).name}, extended to {bench.target_length} tokens",
            "",
            *_targets(found, lengths),
            *_arms(found, lengths),
            *_pairs(found, lengths),
            *_stability(found),
        ]
    written = path.with_suffix(".md")
    above = written.read_text(encoding="utf-8").partition(TABLES)[0] if written.exists() else ""
    written.write_text("\n".join([f"{above}{TABLES}", "", *parts]), encoding="utf-8")
    bench, found = next(iter(loaded.items()))
    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    columns = figure.subplots(1, len(bench.lengths) - 1, sharey=True, squeeze=False)[0]
    for axes, length in zip(columns, bench.lengths[1:], strict=True):
        _draw(axes, length, found)
    figure.savefig(path.with_suffix(".png"), dpi=130)


def _load(cells: Sequence[Cell]) -> dict[str, Outcomes]:
    found: dict[str, Outcomes] = {}
    for cell in cells:
        if (outcome := cell.load()) is not None:
            found.setdefault(cell.arm.label, {})[cell.seed] = outcome
    return found


# -- what one number is ------------------------------------------------------------------------------------------------


def _at(outcome: Outcome, length: int) -> Measured:
    return next(one for one in outcome.measured if one.length == length)


def _nll(outcome: Outcome, length: int) -> float:
    return summarise(_at(outcome, length).needles).nll


def _exact(outcome: Outcome, length: int) -> float:
    return summarise(_at(outcome, length).needles).exact_match


def _perplexity(outcome: Outcome, length: int) -> float:
    return summarise_windows(_at(outcome, length).text).perplexity


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of the table of arms."""

    title: str
    value: Callable[[Outcome], float]
    form: str


def _spread(outcomes: Outcomes, column: _Column) -> str:
    """Median [least, most]; one number alone."""
    values = sorted(column.value(outcome) for outcome in outcomes.values())
    form = column.form
    if len(values) == 1:
        return format(values[0], form)
    return f"{median(values):{form}} [{values[0]:{form}}, {values[-1]:{form}}]"


# -- tables ------------------------------------------------------------------------------------------------------------


def _targets(found: dict[str, Outcomes], lengths: Sequence[int]) -> Iterator[str]:
    """What was asked for, seed by seed."""
    base, extended = found.get("base", {}), found.get(EXTENDED, {})
    if not base or not extended:
        return
    one = next(iter(base.values()))
    yield from (
        "### What was to be shown",
        "",
        f"{HELD_OUT} held-out needle documents and {WINDOWS} texts per length.",
        "",
    )
    yield "| | asked | the model as it is | " + " | ".join(f"seed {seed}" for seed in extended) + " | median |"
    yield "|---" * (len(extended) + 4) + "|"
    for length in lengths:
        rows = [_exact(outcome, length) for outcome in extended.values()]
        yield _row(f"exact match, {length} tokens", f">= {TARGETS[length]:.2f}", _exact(one, length), rows, ".3f")
    before = _exact(one, SHORT)
    rows = [_exact(outcome, SHORT) for outcome in extended.values()]
    yield _row(f"exact match, {SHORT} tokens", f">= {before * (1 - KEPT):.3f}", before, rows, ".3f")
    before = _perplexity(one, SHORT)
    rows = [_perplexity(outcome, SHORT) for outcome in extended.values()]
    yield _row(f"perplexity, {SHORT} tokens", f"<= {before * (1 + KEPT):.2f}", before, rows, ".2f")
    took = [outcome.training for outcome in extended.values() if outcome.training is not None]
    cells = " | ".join(f"{one.cpu_seconds / 60:.1f}" for one in took)
    middle = median(one.cpu_seconds for one in took) / 60
    yield f"| training, CPU minutes on one core | <= 10 on two | | {cells} | {middle:.1f} |"
    yield ""


def _row(name: str, asked: str, before: float, values: list[float], form: str) -> str:
    cells = " | ".join(format(value, form) for value in values)
    return f"| {name} | {asked} | {before:{form}} | {cells} | {median(values):{form}} |"


def _arms(found: dict[str, Outcomes], lengths: Sequence[int]) -> Iterator[str]:
    yield from ("### Every arm", "", "Median [least, most] of the seeds. NLL in nats per answer token.", "")
    columns = [_Column("A", lambda one: one.attention_factor, ".3f")]
    for length in lengths:
        columns += [
            _Column(f"NLL, {length}", functools.partial(_nll, length=length), ".4f"),
            _Column(f"exact match, {length}", functools.partial(_exact, length=length), ".3f"),
        ]
    columns += [
        _Column(f"exact match, {SHORT}", functools.partial(_exact, length=SHORT), ".3f"),
        _Column(f"perplexity, {SHORT}", functools.partial(_perplexity, length=SHORT), ".2f"),
        _Column(f"perplexity, {lengths[-1]}", functools.partial(_perplexity, length=lengths[-1]), ".2f"),
    ]
    yield "| arm | seeds | " + " | ".join(column.title for column in columns) + " |"
    yield "|---" * (len(columns) + 2) + "|"
    for arm in ARMS:
        if (outcomes := found.get(arm.label)) is not None:
            cells = " | ".join(_spread(outcomes, column) for column in columns)
            yield f"| {arm.label} ({arm.about}) | {len(outcomes)} | {cells} |"
    yield ""


def _pairs(found: dict[str, Outcomes], lengths: Sequence[int]) -> Iterator[str]:
    """Differences on the same documents, seed by seed."""
    yield from ("### Pairs", "", "NLL of the first minus NLL of the second on the same documents, 95 % interval.", "")
    titles = " | ".join(f"{length} tokens, by seed" for length in lengths)
    yield f"| first | second | {titles} | perplexity at {SHORT}: ratio |"
    yield "|---" * (len(lengths) + 3) + "|"
    for first, second in PAIRS:
        mine, others = found.get(first, {}), found.get(second, {})
        both = [seed for seed in mine if seed in others]
        if both:
            cells = ["; ".join(_difference(mine[seed], others[seed], length) for seed in both) for length in lengths]
            ratios = (_perplexity(mine[seed], SHORT) / _perplexity(others[seed], SHORT) for seed in both)
            cells.append("; ".join(f"{ratio:.3f}" for ratio in ratios))
            yield f"| {first} | {second} | {' | '.join(cells)} |"
    yield ""


def _difference(mine: Outcome, other: Outcome, length: int) -> str:
    found = paired_difference(_at(mine, length).needles, _at(other, length).needles)
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


# -- stability ---------------------------------------------------------------------------------------------------------


def _stability(found: dict[str, Outcomes]) -> Iterator[str]:
    watched = [outcome.stability for outcome in found.get(EXTENDED, {}).values() if outcome.stability is not None]
    if not watched:
        return
    ends = [stretch.end for stretch in watched[0].held_out]
    yield from ("### 2,000 generated tokens across the switch", "")
    yield f"Medians of {len(watched)} texts (one checkpoint and one prompt each), by stretches of {SHORT} tokens."
    yield ""
    yield "| text | measure | " + " | ".join(f"to {end}" for end in ends) + " |"
    yield "|---" * (len(ends) + 2) + "|"
    yield from _stretch_rows("held-out text", [one.held_out for one in watched])
    for place in range(len(watched[0].generations)):
        same = [one.generations[place] for one in watched]
        yield from _stretch_rows(f"{same[0].mode}, cache {same[0].cache}", [one.stretches for one in same])
    yield ""
    left = max(one.left_behind for stability in watched for one in stability.generations)
    yield f"Largest change of a window's NLL by generating a text: {left:g} nats."
    yield ""


def _stretch_rows(name: str, texts: Sequence[tuple[Stretch, ...]]) -> Iterator[str]:
    columns = list(zip(*texts, strict=True))
    measures: tuple[tuple[str, Callable[[Stretch], float | None], str], ...] = (
        ("NLL without a cache", lambda one: one.nll, ".2f"),
        ("runs of four tokens seen before", lambda one: one.repeated, ".0%"),
        ("words that the corpus does not have", lambda one: one.unknown, ".0%"),
        ("probe, read anew", lambda one: one.probe_anew, ".2f"),
        ("probe, cache kept", lambda one: one.probe_kept, ".2f"),
    )
    for label, value, form in measures:
        cells = []
        for column in columns:
            values = [found for one in column if (found := value(one)) is not None]
            cells.append(format(median(values), form) if values else "")
        yield f"| {name} | {label} | " + " | ".join(cells) + " |"


# -- the plot ----------------------------------------------------------------------------------------------------------


def _draw(axes: Axes, length: int, found: dict[str, Outcomes]) -> None:
    """A dot for every seed, a bar at the median."""
    shown = [label for label in SHOWN if label in found]
    for place, label in enumerate(shown):
        values = [_nll(outcome, length) for outcome in found[label].values()]
        colour = "#c1121f" if label == EXTENDED else "#1d3557" if "mixed" in label or "only" in label else "#8d99ae"
        axes.plot(values, [place] * len(values), "o", color=colour, markersize=5, alpha=0.6)
        axes.plot(median(values), place, "|", color=colour, markersize=16, markeredgewidth=2.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(shown)), shown)
    axes.grid(visible=True, axis="x", linewidth=0.4, alpha=0.5)
    axes.set_title(f"{length} tokens", fontsize=10)
    axes.set_xlabel("needle NLL, nats per answer token")
