"""How busy a search keeps many workers, and what steps made for them cost in quality.

    python -m benchmarks.search.width --store DIR [--target-length 1024] [--seeds 3] [--widths 1 8 16 32 64 128]

Whole searches of the service's own loop on the pocket model, each with the setting `width`. The workers are simulated:
a step's passes take 1 +- 0.1 of a pass each (normal), the next pass goes to the first worker that is free, and a step
or a round of validation begins when the one before it is done. A row per number of workers, for searches made for that
many and for searches made for one: the share of time that workers are busy, the time to the result in passes, and the
winner's NLL on held-out documents.
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.command import run_command
from benchmarks.search.pocket_scorer import PocketScorer
from benchmarks.search.running import held_out_documents
from service.searches.books import InMemoryBook
from service.searches.loop import SearchLoop, Watcher
from service.searches.prepare import prepare_search
from service.searches.validation import Round
from service.specs.search import SearchSpec

SPREAD = 0.1  # standard deviation of the time of a pass over its mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One search: passes of each step and of each round of validation, and what it returned."""

    steps: tuple[int, ...]
    rounds: tuple[int, ...]
    nll: float


def makespan(passes: int, workers: int, rng: np.random.Generator) -> tuple[float, float]:
    """(the time that a step takes, the time that its passes take together): list scheduling (Graham 1969)."""
    times = np.maximum(rng.normal(1.0, SPREAD, passes), 0.1)
    free = [0.0] * min(workers, passes)
    for time in times:
        heapq.heapreplace(free, free[0] + float(time))
    return max(free), float(times.sum())


def schedule(steps: Sequence[int], workers: int, *, seed: int = 0) -> tuple[float, float]:
    """(share of time that workers are busy, time to the end in passes) of steps that wait for each other."""
    rng = np.random.default_rng(seed)
    spans, works = zip(*(makespan(passes, workers, rng) for passes in steps if passes), strict=True)
    return sum(works) / (workers * sum(spans)), sum(spans)


class _Rounds(Watcher):
    """Counts the passes of each round of validation."""

    def __init__(self) -> None:
        self.passes: list[int] = []
        self._known: dict[int, int] = {}

    def round_began(self, current: Round) -> None:
        """See :class:`service.searches.loop.Watcher`."""
        missing = {trial: current.documents - self._known.get(trial, 0) for trial in current.trials}
        self.passes.append(sum(max(count, 0) for count in missing.values()))
        self._known |= dict.fromkeys(current.trials, current.documents)


def run(scorer: PocketScorer, *, target_length: int, seed: int, width: int) -> Row:
    """A search made for `width` workers."""
    spec = {
        "model": "pocket",
        "target_length": target_length,
        "seed": seed,
        "strategy": {"name": "auto", "width": width},
    }
    prepared, watcher = prepare_search(SearchSpec.model_validate(spec)), _Rounds()
    loop = SearchLoop(prepared.strategy, InMemoryBook(scorer, prepared.documents), seed=seed, watcher=watcher)
    loop.search()
    search = loop.validate()
    passes = [0, *(point.document_passes for point in search.trace)]
    winner = search.candidate(search.outcome.winner).scaling
    scores = scorer.score(winner, held_out_documents("pocket", target_length))
    return Row(
        steps=tuple(after - before for before, after in pairwise(passes) if after > before),
        rounds=tuple(watcher.passes),
        nll=float(np.mean([score.nats / score.tokens for score in scores])),
    )


def table(found: dict[int, list[Row]]) -> str:
    """Markdown; `found` are the searches of each width, those of width 1 among them."""
    lines = [
        "| workers | made for | steps | passes | busy, search | busy, with validation | time to result | NLL |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for workers in sorted(found):
        for width in sorted({1, workers}):
            lines.append(_line(workers, width, found[width]))
    return "\n".join(lines)


def _line(workers: int, width: int, rows: Sequence[Row]) -> str:
    busy = np.median([schedule(row.steps, workers)[0] for row in rows])
    whole = [schedule((*row.steps, *row.rounds), workers) for row in rows]
    steps, passes = np.median([(len(row.steps), sum(row.steps)) for row in rows], axis=0)
    nll = sorted(row.nll for row in rows)
    share, time = np.median(whole, axis=0)
    return (
        f"| {workers} | {width} | {steps:.0f} | {passes:.0f} | {busy:.0%} | {share:.0%} | {time:.1f} "
        f"| {np.median(nll):.4f} [{nll[0]:.4f}, {nll[-1]:.4f}] |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(".ropewalk/benchmarks/search"))
    parser.add_argument("--target-length", type=int, default=1024)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 8, 16, 32, 64, 128])
    given = parser.parse_args()
    given.store.mkdir(parents=True, exist_ok=True)
    scorer = PocketScorer(given.store / "scores.sqlite")
    found: dict[int, list[Row]] = {}
    for width in sorted({1, *given.widths}):
        for seed in range(given.seeds):
            row = run(scorer, target_length=given.target_length, seed=seed, width=width)
            found.setdefault(width, []).append(row)
            print(f"width {width}, seed {seed}: steps {row.steps}, rounds {row.rounds}, NLL {row.nll:.4f}", flush=True)
    scorer.close()
    print(table(found))


if __name__ == "__main__":
    run_command(main)
