"""Cells in several processes, for as long as there is time.

Apart from `__main__`, which a started process cannot import.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from dataclasses import dataclass
from multiprocessing.pool import AsyncResult
from pathlib import Path

import torch

from benchmarks.extend.rows.arms import Cell
from benchmarks.extend.rows.cell import Amounts, Outcome, keep, run_cell


@dataclass(frozen=True)
class How:
    """Where and for how long: after `seconds` what is not done is left."""

    store: Path
    device: str
    amounts: Amounts
    processes: int
    seconds: float


def run_all(missing: list[Cell], how: How, results: Path) -> None:
    """Run cells in their order and keep what they come to; one that fails is reported, and the others go on."""
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(how.processes, torch.set_num_threads, (1,)) as pool:
        waiting = [(cell, pool.apply_async(_work, (cell, how))) for cell in missing]
        while waiting and time.monotonic() - began < how.seconds:
            time.sleep(0.2)
            ready = [one for one in waiting if one[1].ready()]
            waiting = [one for one in waiting if one not in ready]
            for cell, answer in ready:
                _take(cell, answer, results)
        pool.terminate()
    print(f"{len(missing) - len(waiting)} of {len(missing)} cells in {time.monotonic() - began:.0f} s", flush=True)


def _take(cell: Cell, answer: AsyncResult[tuple[Outcome, float]], results: Path) -> None:
    try:
        outcome, spent = answer.get()
    except Exception as error:  # whatever ended one training
        print(f"{cell.name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return
    keep(outcome, results)
    print(f"{cell.name}: {spent:.0f} s, {outcome.seconds:.0f} s of them training", flush=True)


def _work(cell: Cell, how: How) -> tuple[Outcome, float]:
    began = time.monotonic()
    return run_cell(cell, how.store, how.device, how.amounts), time.monotonic() - began
