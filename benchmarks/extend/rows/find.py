"""The factors that `benchmarks.extend.rows` trains with: one search for each model and target length.

    python -m benchmarks.extend.rows.find --store DIR --models pocket DIR ... --target-lengths 2048 4096

The default strategy on position-skipped documents, which costs a tenth of one on full ones; finalists are compared on
full ones. What is kept is not searched again. The machine that trains needs the files and not this program.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks.command import run_command
from benchmarks.extend.rows.arms import factors_path
from service.ablations.cells import write_whole
from service.searches.offline import run_offline
from service.searches.prepare import prepare_search
from service.specs.search import SearchSpec
from workers.factory import make_scorer


def find(model: str, target_length: int, path: Path) -> None:
    """Search and keep the winner."""
    objective = {"skipped": {"gaps": 2}, "validation_documents": 24}
    spec = {"model": model, "target_length": target_length, "seed": 0, "objective": objective}
    prepared = prepare_search(SearchSpec.model_validate(spec))
    scorer = make_scorer(replace(prepared.scorer_settings(), threads=1))
    found = run_offline(prepared, scorer)
    scorer.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, found.result.factor_file.to_json())


def main() -> None:
    """Search what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["pocket"])
    parser.add_argument("--target-lengths", type=int, nargs="+", default=[2048])
    given = parser.parse_args()
    for target_length in given.target_lengths:
        for model in given.models:
            path = factors_path(given.store, model, target_length)
            if not path.exists():
                find(model, target_length, path)
                print(f"{path.name}: found", flush=True)


if __name__ == "__main__":
    run_command(main)
