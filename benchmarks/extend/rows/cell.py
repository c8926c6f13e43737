"""One cell of the benchmark of rows: trained with the product's own fine-tuning, and measured."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.extend.rows.arms import ARMS, ORIGINAL_LENGTH, Cell, factors_path
from benchmarks.extend.rows.measure import Checkpoint, Needles, Ruler, Text, answer_ruler, held_out
from benchmarks.measuring import factor_file
from evaluation.models.source import model_sha256, resolve_model
from finetune.config import FinetuneSettings
from finetune.job import run_finetune
from finetune.rows import row_tokens
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.reading.reader import read
from ropewalk.reading.writer import write
from ropewalk.rope.scaling import Scaling
from search_space.candidates.baselines import baseline, own_attention_factor


@dataclass(frozen=True, kw_only=True, slots=True)
class Amounts:
    """How much is measured."""

    documents: int
    windows: int
    ruler_prompts: int = 0
    ruler_lengths: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a cell came to. long_tokens: of the whole training, in long and skipped rows; seconds: of the training on
    one core or one device that others shared; cpu_seconds: of this process in the meantime."""

    cell: Cell
    device: str
    long_tokens: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    """Of the device while training; 0 on the CPU."""
    needles: tuple[Needles, ...]
    text: tuple[Text, ...]
    ruler: tuple[Ruler, ...] = ()


def factors_of(cell: Cell, store: Path) -> FactorFile:
    """What `find` found, or a baseline with its own attention factor."""
    if cell.factors == "found":
        return FactorFile.from_json(factors_path(store, cell.model, cell.target_length).read_text(encoding="utf-8"))
    source = resolve_model(cell.model, original_length=ORIGINAL_LENGTH)
    factors = baseline(cell.factors, source.rope, cell.target_length).scaling.factors
    scaling = Scaling(factors, own_attention_factor(cell.factors, source.rope, cell.target_length))
    identity = ModelIdentity.of(source.rope, name=source.name, sha256=model_sha256(source))
    return factor_file(scaling, identity, source.rope, cell.target_length)


def run_cell(cell: Cell, store: Path, device: str, amounts: Amounts) -> Outcome:
    """Train and measure; the checkpoint is not kept."""
    arm = next(arm for arm in ARMS if arm.label == cell.arm)
    settings = arm.settings(target_length=cell.target_length, seed=cell.seed, device=device, steps=cell.steps)
    documents = held_out(cell.model, cell.target_length, amounts.documents, amounts.windows)
    source = resolve_model(cell.model, original_length=ORIGINAL_LENGTH)
    with tempfile.TemporaryDirectory(prefix="rows-") as scratch:
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began = time.process_time()
        result = run_finetune(
            source,
            factors_of(cell, store),
            settings,
            Path(scratch) / "out",
            lambda progress: None,
            token_cache=store / "tokens",
        )
        cpu_seconds = time.process_time() - began
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
        checkpoint = Checkpoint(Path(scratch) / "out", device)
    return Outcome(
        cell=cell,
        device=device,
        long_tokens=_long_tokens(settings, cell.target_length),
        seconds=result.seconds,
        cpu_seconds=cpu_seconds,
        peak_bytes=peak,
        needles=tuple(checkpoint.needles(of_length) for of_length in documents.documents),
        text=tuple(checkpoint.text(of_length) for of_length in documents.windows),
        ruler=answer_ruler(checkpoint, cell.model, amounts.ruler_lengths, amounts.ruler_prompts)
        if amounts.ruler_prompts
        else (),
    )


def _long_tokens(settings: FinetuneSettings, target_length: int) -> int:
    return sum(
        settings.rows_before(kind, settings.steps)
        * row_tokens(settings, kind, original_length=ORIGINAL_LENGTH, target_length=target_length)
        for kind in ("long", "middle", "skipped")
    )


def keep(outcome: Outcome, results: Path) -> None:
    """Add a line, whole or not at all."""
    line = json.dumps(write(outcome), separators=(",", ":"))
    with results.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def kept(results: Path) -> dict[str, Outcome]:
    """Outcomes by the names of their cells; a line that was cut off is passed over."""
    found: dict[str, Outcome] = {}
    for line in results.read_text(encoding="utf-8").splitlines() if results.exists() else ():
        try:
            outcome = read(Outcome, json.loads(line))
        except ValueError:
            continue
        found[outcome.cell.name] = outcome
    return found
