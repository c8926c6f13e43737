"""The tables of the benchmark of rows: arms beside full rows, paired by seed and document."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.extend.rows.arms import ARMS, FULL, ORIGINAL_LENGTH
from benchmarks.extend.rows.cell import Outcome, kept
from benchmarks.extend.rows.measure import Needles
from evaluation.scores.score import DocumentScore, PairedDifference, paired_difference

_DEPTHS = 5
Group = dict[str, dict[int, Outcome]]
"""Outcomes by arm and seed."""


def report(results: Path) -> str:
    """Markdown of everything that was kept."""
    groups: dict[tuple[str, int, str, int, str], Group] = {}
    for outcome in kept(results).values():
        cell = outcome.cell
        key = (Path(cell.model).name, cell.target_length, cell.factors, cell.steps, outcome.device)
        groups.setdefault(key, {}).setdefault(cell.arm, {})[cell.seed] = outcome
    return "\n".join(line for key, group in groups.items() for line in _group(key, group))


def _group(key: tuple[str, int, str, int, str], group: Group) -> Iterator[str]:
    model, target, factors, steps, device = key
    yield from (f"### {model}, to {target} tokens, {factors} factors, {steps} steps, on {device}", "")
    yield from _arms(group, target)
    yield ""
    yield from _depths(group)
    yield ""
    if any(outcome.ruler for by_seed in group.values() for outcome in by_seed.values()):
        yield from _ruler(group)
        yield ""


def _arms(group: Group, target: int) -> Iterator[str]:
    lengths = tuple(sorted({ORIGINAL_LENGTH, min(4 * ORIGINAL_LENGTH, target), target}))
    yield (
        "| rows | seeds | long tokens | CPU s | "
        + " | ".join(f"NLL, {length} | exact" for length in lengths)
        + f" | NLL - full's, {target} | perplexity, {ORIGINAL_LENGTH} | - full's |"
    )
    yield "|---" * (7 + 2 * len(lengths)) + "|"
    for arm in _in_order(group):
        by_seed = group[arm]
        full = {seed: outcome for seed, outcome in group.get(FULL, {}).items() if seed in by_seed}
        mine = [by_seed[seed] for seed in full]
        cells = [arm, str(len(by_seed))]
        for value in ("long_tokens", "cpu_seconds"):
            ratios = [getattr(by_seed[seed], value) / getattr(one, value) for seed, one in full.items()]
            cells.append(f"{fmean(ratios):.2f}" if ratios and arm != "untrained" else "")
        for length in lengths:
            found = [_needles(outcome, length) for outcome in by_seed.values()]
            cells += [f"{fmean(map(_nll, found)):.4f}", f"{fmean(fmean(one.exact) for one in found):.3f}"]
        if not full or arm == FULL:
            cells += ["", f"{fmean(map(_perplexity, by_seed.values())):.2f}", ""]
        else:
            paired = _paired(mine, list(full.values()), target)
            more = fmean(map(_perplexity, mine)) - fmean(map(_perplexity, full.values()))
            cells.append(f"{paired.mean:+.4f} [{paired.low:+.4f}, {paired.high:+.4f}]")
            cells += [f"{fmean(map(_perplexity, by_seed.values())):.2f}", f"{more:+.2f}"]
        yield "| " + " | ".join(cells) + " |"


def _paired(mine: Sequence[Outcome], full: Sequence[Outcome], length: int) -> PairedDifference:
    """On the same documents, each the mean over the same seeds."""
    return paired_difference(*(_mean_scores([_needles(one, length) for one in group]) for group in (mine, full)))


def _mean_scores(needles: Sequence[Needles]) -> list[DocumentScore]:
    columns = zip(*(one.nats for one in needles), strict=True)
    return [
        DocumentScore(document_id=str(index), nats=fmean(nats), tokens=needles[0].answer_tokens, exact=False)
        for index, nats in enumerate(columns)
    ]


def _depths(group: Group) -> Iterator[str]:
    """NLL by length and by the place of the needle: a hole would show as one worse cell."""
    some = next(iter(next(iter(group.values())).values()))
    lengths = [one.length for one in some.needles if one.length > ORIGINAL_LENGTH]
    edges = [place / _DEPTHS for place in range(_DEPTHS + 1)]
    heads = [f"{length}: {low:g}-{high:g}" for length in lengths for low, high in itertools.pairwise(edges)]
    yield "| rows, NLL by length and depth | " + " | ".join(heads) + " |"
    yield "|---" * (1 + len(heads)) + "|"
    for arm in _in_order(group):
        cells = [
            _at_depth([_needles(outcome, length) for outcome in group[arm].values()], low, high)
            for length in lengths
            for low, high in itertools.pairwise(edges)
        ]
        yield f"| {arm} | " + " | ".join(cells) + " |"


def _at_depth(needles: Sequence[Needles], low: float, high: float) -> str:
    nats = [
        nats / one.answer_tokens
        for one in needles
        for depth, nats in zip(one.depths, one.nats, strict=True)
        if low <= depth < high or depth == high == 1.0
    ]
    return f"{fmean(nats):.3f}" if nats else ""


def _ruler(group: Group) -> Iterator[str]:
    some = next(outcome for by_seed in group.values() for outcome in by_seed.values() if outcome.ruler)
    heads = [(one.task, one.length) for one in some.ruler]
    yield "| rows, RULER, percent | " + " | ".join(f"{task}, {length}" for task, length in heads) + " |"
    yield "|---" * (1 + len(heads)) + "|"
    for arm in _in_order(group):
        found = [outcome.ruler for outcome in group[arm].values() if outcome.ruler]
        if found:
            scores: Mapping[int, float] = {
                place: fmean(one[place].score for one in found) for place in range(len(heads))
            }
            yield f"| {arm} | " + " | ".join(f"{score:.0f}" for score in scores.values()) + " |"


def _in_order(group: Group) -> list[str]:
    return [arm.label for arm in ARMS if arm.label in group]


def _needles(outcome: Outcome, length: int) -> Needles:
    return next(one for one in outcome.needles if one.length == length)


def _nll(needles: Needles) -> float:
    return sum(needles.nats) / (needles.answer_tokens * len(needles.nats))


def _perplexity(outcome: Outcome) -> float:
    text = next(one for one in outcome.text if one.length == ORIGINAL_LENGTH)
    return math.exp(sum(text.nats) / (text.scored * len(text.nats)))
