"""SmolLM2-135M from 8k to 32k on one GPU: baselines, a search, a short fine-tuning, and the table that compares them.

    python -m benchmarks.extend.once --gguf PART [PART ...] --report PATH
    python -m benchmarks.extend.once --small --device cpu

The search is the default strategy on needle documents of the target length, scored by vLLM or transformers; the winner
is chosen on held-out documents; then the model is trained with its factors for as long as `--finetune-seconds` allows,
with mixed context windows. At each length: nats per answer token and exact match on held-out needles. Short documents
are read with original RoPE, as a server of the model would. benchmarks/gpu/README.md says what must be on the machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import run_command
from benchmarks.start import model_directory, parser_of, scratch_directory, start

SCALE = 4  # target over original length
_SMALL_SCALE = 2


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; with --small, limits that suit tests."""
    parser = parser_of(__doc__)
    parser.add_argument("--backend", choices=("auto", "transformers", "vllm"), default="auto")
    parser.add_argument("--scale", type=int, help=f"target over original length; default {SCALE}")
    parser.add_argument("--documents", type=int, help="held-out ones of each length; default 24")
    parser.add_argument("--passes", type=int, help="of the search, at most; default 400")
    parser.add_argument("--search-seconds", type=float, default=120.0)
    parser.add_argument("--finetune-seconds", type=float, default=150.0, help="decides the steps, by a trial of three")
    parser.add_argument("--steps", type=int, help="of the fine-tuning, whatever they take")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    given = start(parser, None if arguments is None else list(arguments))
    given.scale = given.scale or (_SMALL_SCALE if given.small else SCALE)
    given.documents = given.documents or (2 if given.small else 24)
    given.passes = given.passes or (40 if given.small else 400)
    if given.small:
        given.steps = given.steps or 2
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, train, compare."""
    given = parse(arguments)
    with scratch_directory() as scratch:
        from benchmarks.extend.extension import Extension, original_length
        from benchmarks.session import open_session

        model = model_directory(given, scratch)
        length = original_length(model)
        session = open_session(
            given,
            model,
            scratch,
            title="A context window extended on a GPU",
            lengths=tuple(length * factor for factor in (1, 2, 4, 8, 16) if factor <= given.scale),
        )
        Extension(session, given, Path(scratch)).run()


if __name__ == "__main__":
    run_command(main)
