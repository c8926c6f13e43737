"""From search to a model that uses its new length: needles, plain text and short inputs, before and after fine-tuning.

    python -m benchmarks.extend --store DIR [--arms ...] [--seeds 0 1 2] [--models pocket DIR ...]
        [--target-lengths 2048] [--processes 2]
    python -m benchmarks.extend --store DIR --report benchmarks/reports/NAME

The first form runs what is missing, the seeds in turn and the most telling arms first; interrupted and resumed at will,
because every factor file, score and finished arm is kept under DIR. The second writes the report from what is there.

One extension has one target length: the model is searched and trained at 8L (2,048 tokens) once and measured at L, 4L
and 8L, all with the one checkpoint that a user would have. Search, training and scores are the product's own; the
forward pass over needles is `benchmarks/search/pocket_scorer.py`. A seed decides the search and the training;
documents and texts are the same for all.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import time
from pathlib import Path

import torch
from pydantic import TypeAdapter

from benchmarks.extend.arms import (
    ARMS,
    EXTENDED,
    HELD_OUT,
    HELD_OUT_SEED,
    LENGTHS,
    RECIPE,
    SEARCHED,
    SEEDS,
    WINDOWS,
    Arm,
    Bench,
    Cell,
    Outcome,
    Training,
    cells,
    write_outcome,
)
from benchmarks.extend.stability import NEW_TOKENS, PROMPT, watch
from benchmarks.extend.text import TextScorer
from benchmarks.measuring import HeldOut, Measured, factor_file
from benchmarks.search.pocket_scorer import ORIGINAL_LENGTH, PocketScorer
from evaluation.documents.windows import text_windows
from evaluation.scores.served_rope import ServedRope
from finetune.config import FinetuneSettings
from finetune.job import run_finetune
from ropewalk.factors.factor_file import FactorFile
from ropewalk.rope.scaling import Scaling
from search_space.candidates.baselines import baseline, own_attention_factor
from service.ablations.cells import write_whole
from service.searches.offline import run_offline
from service.searches.prepare import prepare_search
from service.specs.search import SearchSpec
from workers.base import ScorerSettings
from workers.transformers_backend.generator import TransformersGenerator


def run(arm: Arm, seed: int, bench: Bench) -> Outcome:
    """Search, train and measure; what is kept from before is not done again."""
    file = factors_of(arm, seed, bench)
    model, training = bench.prepared().worker_name, None
    if arm.trained is not None:
        model, training = train(arm, seed, file, bench)
    rope = ServedRope(original_length=ORIGINAL_LENGTH, scaling=file.scaling)
    watched = arm.label == EXTENDED and bench.target_length > PROMPT + NEW_TOKENS
    return Outcome(
        long_factor=file.long_factor.values,
        attention_factor=file.attention_factor,
        measured=measure(model, rope, bench),
        training=training,
        stability=watch(Path(model), seed=seed) if watched else None,
    )


def factors_of(arm: Arm, seed: int, bench: Bench) -> FactorFile:
    """The factor file of a baseline, or of a search with the product's defaults."""
    model = bench.prepared()
    if arm.factors not in SEARCHED:
        factors = baseline(arm.factors, model.rope, bench.target_length).scaling.factors
        scaling = Scaling(factors, own_attention_factor(arm.factors, model.rope, bench.target_length))
        return factor_file(scaling, model.identity(), model.rope, bench.target_length)
    path = bench.file("factors", f"{arm.factors} {seed}")
    if not path.exists():
        spec = SearchSpec.model_validate({"model": bench.model, "target_length": bench.target_length, "seed": seed})
        scorer = (
            TextScorer(model, target_length=bench.target_length)
            if arm.factors == "text"
            else _pocket_scorer(bench, bench.model)
        )
        found = run_offline(prepare_search(spec), scorer)
        scorer.close()
        write_whole(path, found.result.factor_file.to_json())
    return FactorFile.from_json(path.read_text(encoding="utf-8"))


def train(arm: Arm, seed: int, file: FactorFile, bench: Bench) -> tuple[str, Training]:
    """The checkpoint of this arm, and what it took."""
    output, kept = bench.file("checkpoints", f"{arm.label} {seed}"), bench.file("training", f"{arm.label} {seed}")
    if not kept.exists():
        settings = FinetuneSettings(**{**RECIPE, **(arm.trained or {}), "seed": seed})
        shutil.rmtree(output, ignore_errors=True)  # left by a run that ended between its two files
        began = time.process_time()
        source = bench.prepared().source
        result = run_finetune(source, file, settings, output, lambda progress: None, token_cache=bench.store / "tokens")
        training = Training(
            steps=result.steps,
            tokens=result.tokens,
            wall_seconds=result.seconds,
            cpu_seconds=time.process_time() - began,
        )
        write_whole(kept, TypeAdapter(Training).dump_json(training).decode())
    return str(output.resolve()), TypeAdapter(Training).validate_json(kept.read_text(encoding="utf-8"))


def measure(model: str, rope: ServedRope, bench: Bench) -> tuple[Measured, ...]:
    """Held-out documents and texts at every length, on the RoPE that a server would run them with."""
    prepared = bench.prepared()
    texts = text_windows(
        prepared.factory.tokenizer, prepared.corpus, lengths=bench.lengths, count=WINDOWS, seed=HELD_OUT_SEED
    )
    settings = ScorerSettings(
        model=model, target_length=bench.target_length, original_length=ORIGINAL_LENGTH, threads=1
    )
    scorer, reader = _pocket_scorer(bench, model), TransformersGenerator(settings)
    documents = {
        length: prepared.documents(split="validation", length=length, count=HELD_OUT, needles=1, seed=HELD_OUT_SEED)
        for length in bench.lengths
    }
    found = HeldOut(documents=documents, windows=texts).measure(scorer, reader, rope)
    scorer.close()
    return found


def _pocket_scorer(bench: Bench, model: str) -> PocketScorer:
    return PocketScorer(bench.store / "scores.sqlite", model)


def run_cell(cell: Cell) -> None:
    """Run one cell, keep its outcome and say so."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    outcome = run(cell.arm, cell.seed, cell.bench)
    write_outcome(cell, outcome)
    seconds = time.perf_counter() - started
    print(f"{cell.bench.label}: {cell.arm.label}, seed {cell.seed}: {seconds:.0f} s", flush=True)


def main() -> None:
    """Run what is missing, or write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(".ropewalk/benchmarks/extend"))
    parser.add_argument("--arms", nargs="+", default=[arm.label for arm in ARMS])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--models", nargs="+", default=["pocket"], help="pocket, or directories trained as it was")
    parser.add_argument("--target-lengths", type=int, nargs="+", choices=LENGTHS[1:], default=LENGTHS[-1:])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--report", type=Path, help="write PATH.md and PATH.png from what is there")
    given = parser.parse_args()
    models = [name if name == "pocket" else str(Path(name).resolve()) for name in given.models]
    benches = [
        Bench(store=given.store, model=model, target_length=length)
        for model in models
        for length in given.target_lengths
    ]
    wanted = cells(given.arms, given.seeds, benches)
    if given.report is not None:
        from benchmarks.extend.report import write_report

        write_report(wanted, given.report)
        return
    missing = [cell for cell in wanted if not cell.path.exists()]
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        for _ in pool.imap_unordered(run_cell, missing):
            pass
