"""How good are the factors that each strategy finds on the pocket model, and what do they cost?

    python -m benchmarks.search --store DIR [--models pocket MODEL_DIR] [--lengths 1024 2048] [--seeds 0 1 2 3 4]
        [--methods auto "two kinds"] [--processes 2] [--device cuda]
    python -m benchmarks.search --store DIR --models ... --report benchmarks/reports/NAME

The first form runs what is missing, in any order, interrupted and resumed at will: every score and every finished run
is kept under DIR. The second writes the table and the plot from what is there. Models are the pocket model and
directories that `examples/pocket/train.py` made. x is tokens read (a pass that also returns derivatives counts 3), y
is NLL on 400 held-out documents that no strategy saw, of what the strategy would have
returned then. Strategies, races and rounds are the product's own; the forward pass is
`benchmarks/search/pocket_scorer.py`.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.search.methods import HELD_OUT, HELD_OUT_SEED, LENGTHS, METHODS, SEEDS, Cell, Method, Returned
from benchmarks.search.pocket_scorer import PocketScorer
from evaluation.documents.needle import NeedleDocument
from ropewalk.rope.attention import yarn_attention_factor
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.baselines import baselines
from search_space.candidates.candidate import ScoredCandidate
from search_space.candidates.cost import Spent
from search_space.strategies.base import StrategyContext
from search_space.strategies.seeds import seed_baselines
from service.ablations.cells import write_whole
from service.searches.books import InMemoryBook
from service.searches.loop import FinishedSearch, SearchLoop
from service.searches.model import prepare_model
from service.searches.prepare import prepare_search
from service.searches.results import decide

CHECKPOINTS = (16, 32, 64, 128, 256, 537, 1344, 5000, 13440)  # full documents' tokens, at which the leader is looked at
INTERMEDIATE = 60  # held-out documents of a leader that is not the end of its run


def run(method: Method, cell: Cell, store: Path, *, device: str = "cpu") -> tuple[Returned, ...]:
    """One search; what it would have returned at each checkpoint and what it returns, on held-out documents."""
    scorer = PocketScorer(store / "scores.sqlite", cell.model, device=device)
    prepared = prepare_search(method.spec(cell.model, cell.length, cell.seed))
    loop = SearchLoop(prepared.strategy, InMemoryBook(scorer, prepared.documents), seed=cell.seed)
    loop.search()
    search = loop.validate()
    result = decide(prepared, "benchmark", search)
    documents = held_out_documents(cell.model, cell.length)
    spent = Spent(passes=search.search_passes, tokens=search.search_tokens)
    found = [_checkpoint(search, full * cell.length) for full in CHECKPOINTS if full * cell.length < spent.tokens]
    found.append(_returned(search.trace[-1].leader, spent, "before validation" if method.validates else "final"))
    if method.validates:
        winner = next(one for one in search.history if one.trial == result.winner.trial)
        validation = Spent(passes=search.validation_passes, tokens=search.validation_tokens)
        found.append(replace(_returned(winner, spent + validation, "final"), verdict=result.verdict))
        if search.outcome.best_bred is not None:
            bred = next(one for one in search.history if one.trial == search.outcome.best_bred)
            found.append(_returned(bred, spent + validation, "best shape"))
    if method.strategy["name"] == "evolution":
        bred = min((one for one in search.history if one.candidate.genes), key=lambda one: (one.nll, one.trial))
        found.append(_returned(bred, spent, "bred only"))
    try:
        return tuple(_on_held_out(one, method, documents, scorer) for one in found)
    finally:
        scorer.close()


def _checkpoint(search: FinishedSearch, tokens: int) -> Returned:
    paid = [point for point in search.trace if point.tokens <= tokens]
    return _returned(paid[-1].leader if paid else None, Spent(passes=0, tokens=tokens), "checkpoint")


def _returned(one: ScoredCandidate | None, spent: Spent, kind: str) -> Returned:
    if one is None:  # before the first step is paid for: nothing but the model as it is
        nothing = (1.0,) * 16
        return Returned(
            passes=spent.passes, tokens=spent.tokens, kind=kind, origin="", long_factor=nothing, attention_factor=1.0
        )
    return Returned(
        passes=spent.passes,
        tokens=spent.tokens,
        kind=kind,
        origin=one.candidate.origin,
        long_factor=one.candidate.scaling.factors.values,
        attention_factor=one.candidate.scaling.attention_factor,
        search_nll=one.nll,
    )


def _on_held_out(one: Returned, method: Method, documents: Sequence[NeedleDocument], scorer: PocketScorer) -> Returned:
    count = INTERMEDIATE if one.kind == "checkpoint" else method.held_out
    scaling = Scaling(RescaleFactors(one.long_factor), one.attention_factor)
    scores = scorer.score(scaling, documents[:count])
    return replace(
        one,
        held_out=tuple(score.nats / score.tokens for score in scores),
        exact_match=sum(score.exact for score in scores) / len(scores),
    )


@functools.cache
def held_out_documents(model: str, length: int) -> tuple[NeedleDocument, ...]:
    """The documents that decide, the same for every method and seed."""
    prepared = prepare_model(model, corpus=None, target_length=length)
    return prepared.documents(split="validation", length=length, count=HELD_OUT, needles=1, seed=HELD_OUT_SEED)


def lines(cell: Cell, store: Path, *, device: str = "cpu") -> tuple[Returned, ...]:
    """Every baseline as searches are seeded with it, and MrRoPE-Pro at YaRN's attention factor, for the plot."""
    length, rope = cell.length, prepare_model(cell.model, corpus=None).rope
    context = StrategyContext(rope=rope, target_length=length, seed=0, attention_factor=None)
    scaled = yarn_attention_factor(length / rope.original_max_position_embeddings)
    seeds = list(seed_baselines(context))
    seeds += [
        replace(one, scaling=replace(one.scaling, attention_factor=scaled), origin=f"{one.origin}+YaRN's factor")
        for one in baselines(rope, length)
        if one.baseline_name == "mrrope_pro"
    ]
    scorer = PocketScorer(store / "scores.sqlite", cell.model, device=device)
    method = Method(label="baseline", about="", strategy={})
    found = [
        Returned(
            passes=0,
            tokens=0,
            kind="baseline",
            origin=one.origin,
            long_factor=one.scaling.factors.values,
            attention_factor=one.scaling.attention_factor,
        )
        for one in seeds
    ]
    return tuple(_on_held_out(one, method, held_out_documents(cell.model, length), scorer) for one in found)


# -- running -----------------------------------------------------------------------------------------------------------


def run_cell(cell: Cell, store: Path, device: str = "cpu") -> float:
    """Run `cell` and keep its outcome; returns the seconds it took."""
    started = time.perf_counter()
    if cell.method == "baselines":
        found = lines(cell, store, device=device)
    else:
        found = run(next(one for one in METHODS if one.label == cell.method), cell, store, device=device)
    write_whole(cell.path(store), json.dumps([asdict(one) for one in found]))
    return time.perf_counter() - started


def run_and_print(task: tuple[Cell, Path, str]) -> None:
    """One task of a pool."""
    cell, store, device = task
    seconds = run_cell(cell, store, device)
    print(f"{Path(cell.model).name} {cell.length} {cell.method} seed {cell.seed}: {seconds:.0f} s", flush=True)


def main() -> None:
    """Run what is missing, or write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    methods = [one.label for one in METHODS]
    parser.add_argument("--store", type=Path, default=Path(".ropewalk/benchmarks/search"))
    parser.add_argument("--models", nargs="+", default=["pocket"])
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods, metavar="METHOD")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--report", type=Path, help="write PATH.md and PATH.png from what is there")
    given = parser.parse_args()
    if given.report is not None:
        from benchmarks.search.report import write_report

        write_report(given.store, given.models, given.lengths, given.report)
        return
    places = [(model, length) for length in given.lengths for model in given.models]
    cells = [Cell(model=model, method="baselines", length=length, seed=0) for model, length in places]
    cells += [
        Cell(model=model, method=method, length=length, seed=seed)
        for seed in given.seeds
        for model, length in places
        for method in given.methods
    ]
    missing = [(cell, given.store, given.device) for cell in cells if not cell.path(given.store).exists()]
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        for _ in pool.imap_unordered(run_and_print, missing):
            pass
