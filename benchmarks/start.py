"""The beginning of a benchmark of one model: its arguments, and what must be installed before anything is imported."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.requirements import require

_NEEDED = ("torch", "transformers", "numpy", "safetensors", "tokenizers", "scipy", "sklearn", "wonderwords")


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """With the arguments that all of them have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", help="a Hugging Face directory with safetensors and a tokenizer, or `pocket`")
    model.add_argument("--gguf", nargs="+", type=Path, metavar="PART", help="a GGUF, or its parts in order")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto", help="auto: the GPU where there is one")
    parser.add_argument("--small", action="store_true", help="the pocket model at tiny lengths: does it run?")
    parser.add_argument("--corpus", help="text file; default: the documentation strings of what is installed")
    parser.add_argument("--max-seconds", type=float, default=450.0, help="what does not fit is left out, and said")
    parser.add_argument("--report", type=Path, help="write the tables to this file too")
    return parser


def start(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check; ends the program with one line where something is missing.

    To be called before torch is imported: that is when the device is chosen.
    """
    given = parser.parse_args(arguments)
    if not (given.small or given.model or given.gguf):
        parser.error("one of --model, --gguf and --small must be given")
    require([*_NEEDED, *(["gguf"] if given.gguf else [])])
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    return given


def model_directory(given: argparse.Namespace, scratch: str) -> str:
    """What workers call the model that `given` asks for; a GGUF is converted below `scratch`."""
    if given.gguf:
        from benchmarks.gguf import convert

        return str(convert(given.gguf, Path(scratch) / "model"))
    return given.model or "pocket"


def scratch_directory() -> TemporaryDirectory[str]:
    """For converted models, corpora and checkpoints; gone at the end."""
    return TemporaryDirectory(prefix="ropewalk-gpu-", ignore_cleanup_errors=True)
