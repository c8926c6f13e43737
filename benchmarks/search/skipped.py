"""What a search on position-skipped documents costs and finds, beside one on full documents.

    python -m benchmarks.search.skipped --target-length 2048 --seeds 2

Whole searches of the service's own loop on the pocket model, one after the other in this process. A row a search:
tokens read (validation included, which is always on full documents), CPU seconds, and the winner on its search's own
held-out documents, paired against the best baseline.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace

from benchmarks.command import run_command
from service.searches.offline import OfflineSearch, run_offline
from service.searches.prepare import prepare_search
from service.specs.search import SearchSpec
from workers.factory import make_scorer

ARMS: dict[str, dict[str, object] | None] = {
    "full": None,
    "n = L, 2 gaps": {"gaps": 2, "alone": True},
    "n = 2L, 1 gap": {"tokens": 512, "gaps": 1, "alone": True},
    "n = L, 2 gaps, then full": {"gaps": 2},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Of one search: document passes, tokens of all of them, and CPU seconds of this process."""

    search_passes: int
    validation_passes: int
    tokens: int
    seconds: float


def run_arm(skipped: dict[str, object] | None, *, target_length: int, seed: int) -> tuple[Cost, OfflineSearch]:
    """One search, with the default strategy and budget."""
    spec = {"model": "pocket", "target_length": target_length, "seed": seed, "objective": {"skipped": skipped}}
    prepared = prepare_search(SearchSpec.model_validate(spec))
    scorer = make_scorer(replace(prepared.scorer_settings(), threads=1))
    began = time.process_time()
    found = run_offline(prepared, scorer)
    seconds = time.process_time() - began
    scorer.close()
    return _cost(found, seconds), found


def _cost(found: OfflineSearch, seconds: float) -> Cost:
    search = found.search
    return Cost(
        search_passes=search.search_passes,
        validation_passes=search.validation_passes,
        tokens=search.search_tokens + search.validation_tokens,
        seconds=seconds,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target-length", type=int, default=2048)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    print("| documents | seed | passes | validation | tokens | CPU s | found | best baseline | difference |")
    print("|---|---|---|---|---|---|---|---|---|")
    for seed in range(given.seeds):
        for name, skipped in ARMS.items():
            cost, found = run_arm(skipped, target_length=given.target_length, seed=seed)
            print(f"| {name} | {seed} | {_row(cost, found)} |", flush=True)


def _row(cost: Cost, found: OfflineSearch) -> str:
    result = found.result
    against = result.difference
    interval = "" if against is None else f"{against.mean:+.4f} [{against.low:+.4f}, {against.high:+.4f}]"
    best = result.best_baseline
    return (
        f"{cost.search_passes} | {cost.validation_passes} | {cost.tokens:,} | {cost.seconds:.0f} | "
        f"{result.winner.summary.nll:.4f} | {best.name} {best.summary.nll:.4f} | {interval}"
    )


if __name__ == "__main__":
    run_command(main)
