"""What scoring a candidate costs: tokens per second, memory, the hot swap, and workers, as ratios timed in turns.

    python -m benchmarks.scoring [--model pocket] [--target-length 1024] [--documents 4] [--repeats 5]
    python -m benchmarks.scoring --device auto --gguf PART [PART ...] --report PATH
    python -m benchmarks.scoring --small

The first form takes the pocket model on the CPU, in float32 on one thread: seconds are of the machine at hand and are
there to be divided. The second takes bfloat16 on a GPU and documents of 8k to 128k tokens; benchmarks/gpu/README.md
says what must be on the machine. The third shows whether it runs. Medians of `--repeats`. Rows of vLLM are there where
it is installed, those of workers where the device is the CPU and Ray is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence

from benchmarks.command import run_command
from benchmarks.start import model_directory, parser_of, scratch_directory, start

_LENGTH, _DOCUMENTS = 1024, 4
_GPU_LENGTHS, _GPU_TOKENS = (8192, 16384, 32768, 65536, 131072), 131072
_SMALL_LENGTHS, _SMALL_TOKENS = (256, 512), 1024


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line. On a GPU a model must be named; the defaults are those of the device."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--lengths", "--target-length", type=int, nargs="+", help=f"of the documents; default {_LENGTH}, {_GPU_LENGTHS}"
    )
    parser.add_argument("--documents", type=int, help=f"of each length; default {_DOCUMENTS}, on a GPU by --tokens")
    parser.add_argument("--tokens", type=int, default=_GPU_TOKENS, help="in the documents of one length, together")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak-tflops", type=float, help="dense bf16 of the device, where it is not in the table")
    parser.set_defaults(device="cpu")
    on_cpu = parser.parse_known_args(arguments)[0].device == "cpu"
    if on_cpu:
        parser.set_defaults(model="pocket", max_seconds=3600.0)
    given = start(parser, arguments)
    given.threads = 1 if on_cpu else None
    if given.small:
        given.lengths, given.tokens = given.lengths or _SMALL_LENGTHS, _SMALL_TOKENS
    elif on_cpu:
        given.lengths, given.documents = given.lengths or [_LENGTH], given.documents or _DOCUMENTS
    else:
        given.lengths = given.lengths or _GPU_LENGTHS
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    given = parse(arguments)
    with scratch_directory() as scratch:
        from benchmarks.scoring.bare import Workload
        from benchmarks.scoring.transformers import TransformersRows, measure_processes
        from benchmarks.session import open_session

        session = open_session(
            given,
            model_directory(given, scratch),
            scratch,
            title="What scoring costs",
            lengths=tuple(sorted(given.lengths)),
        )
        workload = Workload(session=session, documents=given.documents, tokens=given.tokens, repeats=given.repeats)
        rows = TransformersRows(workload)
        rows.by_length()
        rows.ratios()
        rows.swap()
        rows.close()
        if given.device == "cpu" and not given.small:
            measure_processes(workload)
        if importlib.util.find_spec("vllm") is not None and session.has_time("the rows of vLLM"):
            from benchmarks.scoring.vllm import measure_vllm

            measure_vllm(workload)
        session.end()


if __name__ == "__main__":
    run_command(main)
