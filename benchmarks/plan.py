"""What `ropewalk plan --measure` says beforehand, against what the work then takes in this process.

    python -m benchmarks.plan [--model pocket] [--target-lengths 1024 2048] [--steps 20] [--repeats 3] [--report FILE]

A search whose passes its spec fixes, its validation as far as it went, and a training with the found factors, each
planned right before it runs. Ratios are those of seconds, planned by taken, for the tokens that were taken.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.command import run_command
from benchmarks.machine import Report, software
from finetune.job import run_finetune
from ropewalk.wire.jobs import ProgressResource
from ropewalk.wire.plan import PlanRow
from service.plans.making import plan_search
from service.plans.measuring import measured_device
from service.searches.offline import OfflineSearch, run_offline
from service.searches.prepare import PreparedSearch, prepare_search
from service.searches.training import finetune_settings
from service.specs.search import SearchSpec
from workers.factory import make_scorer

_STRATEGY = {"name": "evolution", "population": 8, "iterations": 2, "parents": 4, "mutations": 4, "crossovers": 4}


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """By one kind of work."""

    tokens: int
    seconds: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--target-lengths", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--documents", type=int, default=4, help="of the search; twice as many validate")
    parser.add_argument("--steps", type=int, default=20, help="of the training")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--report", type=Path)
    given = parser.parse_args(arguments)
    report = Report(given.report, "What a plan says and what work takes")
    report.add(f"{software()}; `python -m benchmarks.plan`, medians of {given.repeats}.")
    report.table(("L'", "work", "tokens planned", "taken", "seconds planned", "taken", "ratio", "ratios"))
    for length in given.target_lengths:
        spec = SearchSpec.model_validate(
            {
                "model": given.model,
                "target_length": length,
                "objective": {"documents": given.documents, "validation_documents": 2 * given.documents},
                "strategy": _STRATEGY,
                "scorer": {"backend": "transformers"},
                "finetune": {"steps": given.steps},
            }
        )
        runs = [_planned_and_taken(spec) for _ in range(given.repeats)]
        for works in zip(*runs, strict=True):
            report.row(str(length), *_cells(works))


def _planned_and_taken(spec: SearchSpec) -> list[tuple[PlanRow, Taken]]:
    planned = plan_search(spec, measured_device(spec, lambda _: None)).rows
    begun: dict[str, float] = {"searching": time.perf_counter()}

    def note(progress: ProgressResource) -> None:
        begun.setdefault(progress.stage, time.perf_counter())

    prepared = prepare_search(spec)
    with closing(make_scorer(prepared.scorer_settings())) as scorer:
        begun["searching"] = time.perf_counter()
        found = run_offline(prepared, scorer, on_progress=note)
        ended = time.perf_counter()
    validating = begun["validating"]
    taken = (
        Taken(tokens=found.search.search_tokens, seconds=validating - begun["searching"]),
        Taken(tokens=found.search.validation_tokens, seconds=ended - validating),
        _trained(prepared, found),
    )
    return list(zip(planned, taken, strict=True))


def _trained(prepared: PreparedSearch, found: OfflineSearch) -> Taken:
    source, spec = prepared.model.source, prepared.spec
    assert spec.finetune is not None
    settings = finetune_settings(spec.finetune, source, spec.target_length)
    with TemporaryDirectory() as directory:
        result = run_finetune(source, found.result.factor_file, settings, Path(directory) / "out", lambda _: None)
    return Taken(tokens=result.tokens, seconds=result.seconds)


def _cells(works: Sequence[tuple[PlanRow, Taken]]) -> list[str]:
    """Of one kind of work, planned and taken several times."""
    pairs = [(row.hours * 3600 * taken.tokens / row.tokens, taken.seconds) for row, taken in works]
    ratios = [planned / taken for planned, taken in pairs]
    row, taken = works[-1]
    return [
        row.work,
        f"{row.bound} {row.tokens}",
        str(taken.tokens),
        *(f"{median(values):.3g}" for values in zip(*pairs, strict=True)),
        f"{median(ratios):.2f}",
        ", ".join(f"{ratio:.2f}" for ratio in ratios),
    ]


if __name__ == "__main__":
    run_command(main)
