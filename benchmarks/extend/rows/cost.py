"""CPU seconds of a training step of each arm, on one thread, arms in turn in one process.

    python -m benchmarks.extend.rows.cost [--target-length 2048] [--rounds 3] [--arms ...]

The ratio to full rows is the median over rounds, each of which runs every arm once: time that others take from the
processor is not counted, and what slows all of them down cancels.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from benchmarks.command import run_command
from benchmarks.extend.rows.arms import ARMS, FULL, Cell
from benchmarks.extend.rows.cell import factors_of
from evaluation.models.source import resolve_model
from finetune.job import run_finetune

_STEPS = 3  # of each sort, after one that is not counted


def seconds_per_step(arm: str, target_length: int, tokens: Path) -> float:
    """CPU seconds of this process, mean over steps: as many with long rows as a training has among others."""
    cell = Cell(model="pocket", target_length=target_length, factors="yarn", arm=arm, seed=0)
    chosen = next(one for one in ARMS if one.label == arm)
    settings = chosen.settings(target_length=target_length, seed=0, device="cpu")
    settings = replace(settings, steps=1 + _STEPS * settings.long_every, warmup_steps=1)
    ends: list[float] = []
    with tempfile.TemporaryDirectory(prefix="rows-") as scratch:
        run_finetune(
            resolve_model("pocket"),
            factors_of(cell, tokens),
            settings,
            Path(scratch) / "out",
            lambda progress: ends.append(time.process_time()),
            token_cache=tokens,
        )
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def compare(arms: Sequence[str], target_length: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of every arm in every round."""
    found: dict[str, list[float]] = {arm: [] for arm in arms}
    with tempfile.TemporaryDirectory(prefix="rows-tokens-") as tokens:
        for _ in range(rounds):
            for arm in arms:
                found[arm].append(seconds_per_step(arm, target_length, Path(tokens)))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target-length", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    default = [FULL, "skipped L, 1/8", "skipped L, 1/4", "skipped 2L, 1/4", "skipped L, equal"]
    parser.add_argument("--arms", nargs="+", choices=[arm.label for arm in ARMS], default=default, metavar="ARM")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = compare([FULL, *(arm for arm in given.arms if arm != FULL)], given.target_length, given.rounds)
    print("| rows | CPU s a step | over full rows |")
    print("|---|---|---|")
    for arm, seconds in found.items():
        ratios = [mine / full for mine, full in zip(seconds, found[FULL], strict=True)]
        print(f"| {arm} | {median(seconds):.2f} | {median(ratios):.2f} |")


if __name__ == "__main__":
    run_command(main)
