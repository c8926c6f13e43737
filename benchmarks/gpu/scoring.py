"""What scoring a candidate costs on a GPU: tokens per second, share of the device's peak, memory, and the hot swap.

    python -m benchmarks.gpu.scoring --gguf PART [PART ...] --report PATH
    python -m benchmarks.gpu.scoring --small --device cpu

bfloat16 on a GPU, documents of 8k to 128k tokens. Each ratio is of two things timed in turns in one run, medians of
`--repeats`. Rows of vLLM are there where it is installed. benchmarks/gpu/README.md says what must be on the machine.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence

from benchmarks.gpu.start import model_directory, parser_of, scratch_directory, start

LENGTHS = (8192, 16384, 32768, 65536, 131072)
_TOKENS = 131072
_SMALL_LENGTHS, _SMALL_TOKENS = (256, 512), 1024


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", help=f"of the documents; default {LENGTHS}")
    parser.add_argument("--tokens", type=int, help=f"in the documents of one length, together; default {_TOKENS}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak-tflops", type=float, help="dense bf16 of the device, where it is not in the table")
    given = start(parser, arguments)
    given.lengths = given.lengths or (_SMALL_LENGTHS if given.small else LENGTHS)
    given.tokens = given.tokens or (_SMALL_TOKENS if given.small else _TOKENS)
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    given = parse(arguments)
    with scratch_directory() as scratch:
        from benchmarks.gpu.scoring_transformers import measure_transformers
        from benchmarks.gpu.session import open_session

        model = model_directory(given, scratch)
        session = open_session(
            given, model, scratch, title="What scoring costs on a GPU", lengths=tuple(sorted(given.lengths))
        )
        measure_transformers(session, repeats=given.repeats, tokens=given.tokens)
        if importlib.util.find_spec("vllm") is not None and session.has_time("the rows of vLLM"):
            from benchmarks.gpu.scoring_vllm import measure_vllm

            measure_vllm(session, repeats=given.repeats, tokens=given.tokens)
        session.end()


if __name__ == "__main__":
    main()
