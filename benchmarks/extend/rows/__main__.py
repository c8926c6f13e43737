"""Do rows whose positions jump teach a model its new length as full ones do, and for how much less?

    python -m benchmarks.extend.rows.find --store DIR --models pocket DIR ...          # needs the whole installation
    python -m benchmarks.extend.rows --store DIR --models pocket DIR ... [--device cuda] [--processes 12]
    python -m benchmarks.extend.rows --store DIR --report                              # prints the tables

Trainings are the product's own; every arm has the same steps and short rows, and differs in its long ones
(`benchmarks/extend/rows/arms.py`). Resumable: outcomes are lines of DIR/results.jsonl, and what is there is not run
again. The second form needs torch and transformers and no network; `--seconds` ends it in time, with what there is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.command import run_command
from benchmarks.extend.rows.arms import ARMS, SEEDS, STEPS, cells


def main() -> None:
    """Run what is missing, or print the tables."""
    given = _parser().parse_args()
    results = given.store / "results.jsonl"
    if given.report:
        from benchmarks.extend.rows.report import report

        print(report(results))
        return
    from benchmarks.extend.rows.cell import Amounts, kept
    from benchmarks.extend.rows.pool import How, run_all

    wanted = cells(
        tuple(given.models),
        tuple(given.target_lengths),
        tuple(given.factors),
        tuple(given.seeds),
        tuple(given.arms),
        steps=given.steps,
    )
    done = kept(results)
    missing = [cell for cell in wanted if cell.name not in done]
    amounts = Amounts(
        documents=given.documents,
        windows=given.windows,
        ruler_prompts=given.ruler_prompts,
        ruler_lengths=tuple(given.ruler_lengths),
    )
    run_all(missing, How(given.store, given.device, amounts, given.processes, given.seconds), results)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    labels = [arm.label for arm in ARMS]
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["pocket"], help="pocket, or directories trained as it was")
    parser.add_argument("--target-lengths", type=int, nargs="+", default=[2048])
    parser.add_argument("--factors", nargs="+", default=["found"], help="found, or names of baselines")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--arms", nargs="+", choices=labels, default=labels, metavar="ARM")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--documents", type=int, default=200, help="held-out ones of each length")
    parser.add_argument("--windows", type=int, default=60, help="of plain text, of each length")
    parser.add_argument("--ruler-prompts", type=int, default=0, help="of each task; 0 asks none")
    parser.add_argument("--ruler-lengths", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after which what is not done is left")
    parser.add_argument("--report", action="store_true", help="print the tables of what is there")
    return parser


if __name__ == "__main__":
    run_command(main)
