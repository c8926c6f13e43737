"""Do position-skipped documents rank candidates as full ones do, and what does each cost?

    python -m benchmarks.agreement --model pocket --lengths 1024 2048 --forms 256x1h 256x2h 512x1a
    python -m benchmarks.agreement --gguf PART [PART ...] --lengths 16384 32768 --report PATH
    python -m benchmarks.agreement --small --device cpu

Candidates are the baselines that a search begins with and the first shapes of a Sobol sequence. A form is TOKENSxGAPSP:
so many tokens, so many gaps, in the haystack (h) or anywhere (a). Full and skipped documents are different ones, so
agreement is not of luck; two halves of the full ones say what noise alone would leave. With --store every score is
kept, and an interrupted run goes on. `--finalists` are measured on held-out full documents afterwards: the best by each
form, against the best baseline, paired.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import run_command
from benchmarks.start import model_directory, parser_of, scratch_directory, start

_FORM = re.compile(r"(\d+)x(\d+)([ha])")
_PLACES = {"h": "haystack", "a": "anywhere"}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; with --small, what suits tests."""
    parser = parser_of(__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", help="target lengths; default 2, 4 and 8 times the original")
    parser.add_argument(
        "--forms", type=_form, nargs="+", help="default: the original length and half of it, 1 or 2 gaps"
    )
    parser.add_argument("--shapes", type=int, help="candidates beside the baselines; default 32")
    parser.add_argument("--full", type=int, help="full documents a candidate; default 16")
    parser.add_argument("--skipped", type=int, help="skipped documents a candidate; default 16")
    parser.add_argument("--finalists", type=int, default=0, help="of each form, measured on as many held-out documents")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--pocket", action="store_true", help="the pocket model's own fast forward pass, on the CPU")
    parser.add_argument("--store", type=Path, help="keep scores in this file, and use those that are in it")
    parser.add_argument("--seed", type=int, default=0)
    given = start(parser, None if arguments is None else list(arguments))
    given.shapes = given.shapes or (4 if given.small else 32)
    given.full = given.full or (2 if given.small else 16)
    given.skipped = given.skipped or (2 if given.small else 16)
    return given


def _form(text: str) -> tuple[int, int, str]:
    found = _FORM.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"a form must be as 256x2h or 512x1a, but got {text!r}")
    return int(found[1]), int(found[2]), _PLACES[found[3]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    given = parse(arguments)
    with scratch_directory() as scratch:
        from benchmarks.agreement.tables import Tables
        from benchmarks.session import open_session

        session = open_session(
            given,
            model_directory(given, scratch),
            scratch,
            title="Do skipped documents rank as full ones do",
            lengths=tuple(sorted(given.lengths or ())),
        )
        Tables(session, given, Path(scratch)).write()


if __name__ == "__main__":
    run_command(main)
