"""What a document score costs beside the forward pass it is taken from. Ratios, each of two things timed in turns.

    python -m benchmarks.scoring [--model pocket] [--target-length 1024] [--documents 4] [--repeats 5]

Prints one Markdown table. The rows of vLLM need an environment that has it (`scripts/install-vllm`), and are left out
where it is missing. Seconds are of the machine at hand and are there to be divided; memory is the peak of a process of
its own, above what it held with the model loaded.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator

from benchmarks.scoring import transformers as scoring_transformers
from benchmarks.scoring.ratios import HEADER, Ratio, Workload
from search_space.candidates.baselines import baselines
from service.searches.prepare import prepare_model


def make_workload(*, model: str, target_length: int, documents: int, repeats: int) -> Workload:
    """Validation documents, and YaRN and MrRoPE-Pro as the two candidates."""
    prepared = prepare_model(model, corpus=None, target_length=target_length)
    formulas = {one.baseline_name: one for one in baselines(prepared.rope, target_length)}
    return Workload(
        model=prepared.worker_name,
        path=prepared.source.path,
        original_length=prepared.rope.original_max_position_embeddings,
        target_length=target_length,
        documents=prepared.documents(split="validation", length=target_length, count=documents, needles=1, seed=0),
        candidates=(formulas["yarn"], formulas["mrrope_pro"]),
        repeats=repeats,
    )


def rows(workload: Workload) -> Iterator[Ratio]:
    """Every measurement that this environment can make."""
    yield from scoring_transformers.rows(workload)
    if importlib.util.find_spec("vllm") is not None:
        from benchmarks.scoring.vllm import rows as vllm_rows

        yield from vllm_rows(workload)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket", help="`pocket` or a directory")
    parser.add_argument("--target-length", type=int, default=1024)
    parser.add_argument("--documents", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    workload = make_workload(
        model=given.model, target_length=given.target_length, documents=given.documents, repeats=given.repeats
    )
    print(f"{given.model}, {given.documents} documents of {given.target_length} tokens, float32, one thread\n")
    print(HEADER)
    for row in rows(workload):
        print(row.line(), flush=True)


if __name__ == "__main__":
    main()
