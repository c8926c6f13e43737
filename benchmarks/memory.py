"""The memory that a training is estimated to take, beside what it took.

    python -m benchmarks.memory [--device cuda] [--hidden 512] [--layers 6] [--target-length 2048] [--heap]

A random Llama with the pocket model's tokenizer is trained for two steps, each case in a process of its own. On the CPU
the growth of the process's resident set is measured, past that of a training so small that it only loads what every one
does; on a GPU what torch's allocator held at most. With --heap the C library keeps in its heap what torch gives back,
as it does by itself; without, what is free goes back to the system at once. Needs torch and transformers only.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.command import run_command
from benchmarks.measuring import factor_file
from evaluation.models.source import model_sha256, resolve_model
from finetune.config import FinetuneSettings
from finetune.job import run_finetune, training_dtype
from finetune.language_model import load_model
from finetune.memory import ModelSize, estimate
from ropewalk.factors.factor_file import ModelIdentity
from search_space.candidates.baselines import baseline

ORIGINAL_LENGTH = 256
_MIB = 2**20
_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
_STEPS = {"steps": 2, "warmup_steps": 1, "threads": None}
_SKIPPED = {"long_documents_per_step": 0, "skipped_rows_per_step": 4, "short_tokens": ORIGINAL_LENGTH}
_LEAN = {**_SKIPPED, "rows_per_pass": 1, "gradient_checkpointing": "on"}
CASES: Mapping[str, Mapping[str, Any]] = {
    "a row of L'": {"long_documents_per_step": 1, "gradient_checkpointing": "off"},
    "a row of L', recomputed": {"long_documents_per_step": 1, "gradient_checkpointing": "on"},
    "skipped rows, one a pass": {**_SKIPPED, "rows_per_pass": 1, "gradient_checkpointing": "off"},
    "skipped rows, four a pass": {**_SKIPPED, "rows_per_pass": 4, "gradient_checkpointing": "off"},
    "skipped rows, recomputed": _LEAN,
    "skipped rows, AdamW in 8 bits": {**_LEAN, "optimizer": "adamw_8bit"},
    "skipped rows, Adafactor": {**_LEAN, "optimizer": "adafactor"},
    "skipped rows, bfloat16": {**_LEAN, "dtype": "bfloat16", "gradient_checkpointing": "off"},
    "skipped rows, bfloat16, recomputed": {**_LEAN, "dtype": "bfloat16"},
    "skipped rows, bfloat16, recomputed, Adafactor": {**_LEAN, "dtype": "bfloat16", "optimizer": "adafactor"},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Of the model that is trained, and how far."""

    hidden: int = 512
    layers: int = 6
    target_length: int = 2048
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes of one training."""

    estimated: int
    measured: int


def compare(name: str, shape: Shape, *, heap: bool = False) -> Memory:
    """Estimate one of CASES and measure it, in a new process."""
    with _allocator(heap=heap), ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_compare, name, shape).result()


@contextlib.contextmanager
def _allocator(*, heap: bool) -> Iterator[None]:
    """What new processes' C library does with free memory: settings of glibc, read as a process starts."""
    before = dict(os.environ)
    os.environ.update({} if heap else _AT_ONCE)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _compare(name: str, shape: Shape) -> Memory:
    settings = FinetuneSettings(**{**_STEPS, "device": shape.device, **CASES[name]})
    with tempfile.TemporaryDirectory(prefix="memory-") as scratch:
        directory = Path(scratch) / "model"
        _write_model(shape, directory)
        small = replace(settings, **CASES["skipped rows, one a pass"])
        _train("pocket", small, shape, Path(scratch))
        before = _begin(shape.device)
        _train(str(directory), settings, shape, Path(scratch))
        measured = _peak(shape.device) - before
        needed = estimate(
            ModelSize.of(load_model(directory)),
            settings,
            original_length=ORIGINAL_LENGTH,
            target_length=shape.target_length,
            number_bytes=training_dtype(settings, torch.device(shape.device)).itemsize,
            checkpointing=settings.gradient_checkpointing == "on",
        )
    return Memory(estimated=needed.total, measured=measured)


def _write_model(shape: Shape, directory: Path) -> None:
    """Random weights, the pocket model's tokenizer and length."""
    pocket = resolve_model("pocket").path
    config = AutoConfig.from_pretrained(pocket)
    heads = config.num_attention_heads
    config.hidden_size, config.num_hidden_layers = shape.hidden, shape.layers
    config.intermediate_size, config.head_dim = shape.hidden * 11 // 4, shape.hidden // heads
    model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.save_pretrained(directory)
    for file in pocket.glob("tokenizer*"):
        shutil.copy(file, directory)


def _train(model: str, settings: FinetuneSettings, shape: Shape, scratch: Path) -> None:
    source = resolve_model(model)
    identity = ModelIdentity.of(source.rope, name=source.name, sha256=model_sha256(source))
    scaling = baseline("yarn", source.rope, shape.target_length).scaling
    file = factor_file(scaling, identity, source.rope, shape.target_length)
    output = Path(tempfile.mkdtemp(dir=scratch))
    run_finetune(source, file, settings, output, lambda progress: None, token_cache=scratch / "tokens")


def _begin(device: str) -> int:
    """Forget the peak so far; returns what is held now, bytes."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _check(parser: argparse.ArgumentParser, shape: Shape) -> None:
    """End with what a shape breaks, before any model is made."""
    pairs = 2 * AutoConfig.from_pretrained(resolve_model("pocket").path).num_attention_heads
    if shape.hidden < pairs or shape.hidden % pairs:
        parser.error(f"--hidden must be a multiple of {pairs}, two numbers for each head, but got {shape.hidden}")
    if shape.layers < 1:
        parser.error(f"--layers must be at least 1, but got {shape.layers}")
    if shape.target_length <= ORIGINAL_LENGTH:
        parser.error(f"--target-length must be above {ORIGINAL_LENGTH}, but got {shape.target_length}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--target-length", type=int, default=2048)
    parser.add_argument("--heap", action="store_true", help="measure with what the C library's heap keeps")
    given = vars(parser.parse_args())
    heap = given.pop("heap")
    shape = Shape(**given)
    _check(parser, shape)
    print("| rows | estimated, MiB | measured, MiB | estimated over measured |")
    print("|---|---|---|---|")
    for name in CASES:
        found = compare(name, shape, heap=heap)
        ratio = found.estimated / found.measured
        print(f"| {name} | {found.estimated / _MIB:.0f} | {found.measured / _MIB:.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    run_command(main)
