"""Ablations: what a spec may ask, what a cell measures, and an experiment that is killed and goes on.

The last test is slow: four times a process of Tune's loads what a cell needs.
"""

import json
import os
import pydoc_data.topics
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import ray

from evaluation.scores.score import summarise
from service.ablations.cells import AblationStore, run_cell
from service.ablations.results import Ablation, CellResult, CheckpointResult, HeldOutScore, Spread
from service.ablations.run import check_ablation, gather, run_ablation
from service.ablations.spec import EXAMPLE, AblationSpec, Cell, parse_ablation
from service.errors import InvalidSpec
from service.searches.offline import run_offline
from service.searches.prepare import prepare_search
from tests.helpers.paths import ROOT
from workers.analytic_backend.scorer import AnalyticScorer
from workers.pool.cluster import shutdown_ray

EVOLUTION = {"name": "evolution", "population": 6, "iterations": 2, "parents": 4, "mutations": 2, "crossovers": 2}
AUTO = {"name": "auto", "startup": 6, "batch": 2, "generations": 3, "first_documents": 2, "leaders": 2}
SPEC: dict[str, Any] = {
    "name": "small",
    "base": {
        "model": "pocket",
        "target_length": 512,
        "objective": {"documents": 6, "validation_documents": 8},
        "scorer": {"backend": "analytic"},
    },
    "strategies": [
        {"label": "auto", "strategy": AUTO},
        {"label": "few documents", "strategy": EVOLUTION, "objective": {"documents": 2}},
    ],
    "seeds": [0, 1],
    "heldout_documents": 5,
    "checkpoints": [40, 100_000],
}


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    """With a corpus that is tokenised in no time."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(pydoc_data.topics.topics.values())[:120_000])
    base = {**SPEC["base"], "objective": {**SPEC["base"]["objective"], "corpus": str(corpus)}}
    return {**SPEC, "base": base}


# -- specs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "../elsewhere"}, "/name"),
        ({"strategies": []}, "/strategies"),
        ({"strategies": [{"label": "a"}, {"label": "a"}]}, "labels must not repeat, but got a, a"),
        ({"strategies": [{"label": "baselines"}]}, "must not be 'baselines'"),
        ({"strategies": [{"label": "a", "objective": {"document": 3}}]}, "strategy 'a': /objective/document"),
        ({"strategies": [{"label": "a", "budget": {"max_trials": 0}}]}, "strategy 'a': /budget/max_trials"),
        ({"strategies": [{"label": "a", "model": "pocket"}]}, "/strategies/0/model"),
        ({"seeds": [1, 1]}, "seeds must not repeat"),
        ({"seeds": [1_000_000]}, "heldout_seed=1000000"),
        ({"heldout_seed": 1}, "heldout_seed=1, seeds=0, 1"),
        ({"heldout_documents": 1}, "/heldout_documents"),
        ({"checkpoints": [0]}, "/checkpoints/0"),
        ({"target_lengths": []}, "/target_lengths"),
        ({"base": {**SPEC["base"], "workers": 2}}, "workers=1"),
        ({"base": {**SPEC["base"], "finetune": True}}, "must not fine-tune"),
        ({"base": {"model": "pocket"}}, "/base/target_length"),
        ({"seed": 3}, "/seed"),
    ],
)
def test_a_spec_that_breaks_a_rule_is_refused_with_the_field(changes: dict[str, Any], said: str) -> None:
    parse_ablation(SPEC)
    with pytest.raises(InvalidSpec, match=said):
        parse_ablation({**SPEC, **changes})


def test_the_example_is_a_good_spec_and_the_one_of_the_documentation() -> None:
    parsed = parse_ablation(EXAMPLE)
    page = (ROOT / "docs" / "ablation.md").read_text()
    assert parse_ablation(json.loads(page.partition("```json")[2].partition("```")[0])) == parsed
    prepare_search(parsed.search_spec(parsed.cells()[-1]), weights=False)


def test_what_a_search_would_refuse_is_told_before_anything_runs() -> None:
    strategies = [{"label": "typo", "strategy": {"name": "evolution", "popultion": 3}}]
    with pytest.raises(InvalidSpec, match=r"typo, pocket, 512 tokens, seed 0: .*popultion"):
        check_ablation(parse_ablation({**SPEC, "strategies": strategies}))


def test_every_combination_is_a_cell_and_overrides_are_laid_over_the_base() -> None:
    parsed = parse_ablation({**SPEC, "models": ["pocket", "other"], "target_lengths": [512, 768]})
    cells = parsed.cells()
    assert len(cells) == 4 + 2 * 4 * 2
    assert len({cell.name for cell in cells}) == len(cells)
    searches = [cell for cell in cells if cell.strategy is not None]
    combinations = {(c.strategy.label, c.model, c.target_length, c.seed) for c in searches if c.strategy}
    assert len(combinations) == len(searches)
    few = next(cell for cell in searches if cell.strategy and cell.strategy.label == "few documents" and cell.seed == 1)
    search = parsed.search_spec(replace(few, model="other", target_length=768))
    assert (search.model, search.target_length, search.seed, search.strategy.name) == ("other", 768, 1, "evolution")
    assert (search.objective.documents, search.objective.validation_documents) == (2, 8)
    assert search.strategy.arguments()["population"] == 6


# -- cells -----------------------------------------------------------------------------------------------------------


def search_cells(parsed: AblationSpec) -> list[Cell]:
    return [cell for cell in parsed.cells() if cell.strategy is not None]


def run_search_cell(parsed: AblationSpec, cell: Cell) -> CellResult:
    result = run_cell(parsed, cell)
    assert isinstance(result, CellResult)
    return result


def test_a_cell_scores_what_the_search_returned_on_documents_that_no_search_has_seen(spec: dict[str, Any]) -> None:
    parsed = parse_ablation(spec)
    cell = search_cells(parsed)[1]
    result = run_search_cell(parsed, cell)
    prepared = prepare_search(parsed.search_spec(cell))
    scorer = AnalyticScorer(prepared.scorer_settings())
    found = run_offline(prepared, scorer)
    held_out = prepared.model.documents(split="validation", length=512, count=5, needles=1, seed=1_000_000)
    winner = found.result.winner.scored.candidate
    scores = scorer.score(winner.scaling, held_out)
    assert result.held_out == HeldOutScore.of(summarise(scores))
    assert (result.search_passes, result.validation_passes) == (
        found.search.search_passes,
        found.search.validation_passes,
    )
    assert (result.verdict, result.winner) == (found.result.verdict, found.result.winner.name)
    seen = {
        document.token_ids
        for one in search_cells(parsed)
        for search in [prepare_search(parsed.search_spec(one))]
        for split in ("search", "validation")
        for document in search.documents(split)
    }
    assert seen.isdisjoint(document.token_ids for document in held_out)


def test_checkpoints_score_the_leader_of_then_as_far_as_the_search_went(spec: dict[str, Any]) -> None:
    parsed = parse_ablation(spec)
    cell = search_cells(parsed)[0]
    result = run_search_cell(parsed, cell)
    prepared = prepare_search(parsed.search_spec(cell))
    scorer = AnalyticScorer(prepared.scorer_settings())
    point = run_offline(prepared, scorer).search.leader_at(40)
    assert point is not None
    assert point.leader is not None
    assert [one.checkpoint for one in result.checkpoints] == [40]
    held_out = prepared.model.documents(split="validation", length=512, count=5, needles=1, seed=1_000_000)
    leader = point.leader.candidate
    scores = scorer.score(leader.scaling, held_out)
    assert result.checkpoints[0] == CheckpointResult(
        checkpoint=40,
        document_passes=point.document_passes,
        tokens=512 * point.document_passes,
        held_out=HeldOutScore.of(summarise(scores)),
        attention_factor=leader.scaling.attention_factor,
    )


def test_strategies_may_differ_in_the_attention_factor(spec: dict[str, Any]) -> None:
    strategies = [{"label": "louder", "strategy": EVOLUTION, "scorer": {"attention_factor": 1.1}}]
    base = {**spec["base"], "scorer": {**spec["base"].get("scorer", {}), "attention_factor": 1.0}}
    parsed = parse_ablation({**spec, "base": base, "strategies": strategies})
    assert run_search_cell(parsed, search_cells(parsed)[0]).attention_factor == 1.1
    baselines = run_cell(parsed, parsed.cells()[0])
    assert isinstance(baselines, tuple)
    assert {one.attention_factor for one in baselines} == {1.0}, "those of the base spec"
    assert {one.name for one in baselines} >= {"none", "pi", "yarn", "mrrope_pro"}


# -- over seeds ------------------------------------------------------------------------------------------------------


def made(seed: int, nll: float, passes: int, checkpoints: tuple[tuple[int, int, float], ...] = ()) -> CellResult:
    return CellResult(
        label="auto",
        model="pocket",
        target_length=512,
        seed=seed,
        search_passes=passes,
        search_tokens=512 * passes,
        validation_passes=10,
        validation_tokens=512 * 10,
        held_out=held_out_of(nll),
        winner="trial 9",
        attention_factor=1.0,
        verdict="beats_best_baseline" if nll < 0.5 else "is_best_baseline",
        seconds=1.0,
        scorer="0" * 16,
        checkpoints=tuple(
            CheckpointResult(checkpoint=at, document_passes=paid, held_out=held_out_of(then), attention_factor=1.0)
            for at, paid, then in checkpoints
        ),
    )


def held_out_of(nll: float) -> HeldOutScore:
    return HeldOutScore(nll=nll, nll_standard_error=0.1, exact_match=0.5, documents=5)


def test_a_group_is_the_median_and_the_range_over_seeds() -> None:
    cells = (
        made(0, 0.7, 90, ((20, 18, 0.9), (80, 75, 0.8))),
        made(1, 0.2, 100, ((20, 20, 0.6), (80, 80, 0.3))),
        made(2, 0.3, 60, ((20, 16, 0.5),)),
    )
    (group,) = Ablation(spec=parse_ablation(SPEC), cells=cells, baselines=()).groups()
    assert (group.seeds, group.beaten) == ((0, 1, 2), 2)
    assert (group.nll.median, group.nll.low, group.nll.high) == (0.3, 0.2, 0.7)
    assert group.search_tokens == Spread(median=512 * 90, low=512 * 60, high=512 * 100)
    assert [(one.document_passes, one.tokens, one.nll.median, one.nll.low, one.nll.high) for one in group.curve] == [
        (18, None, 0.6, 0.5, 0.9),  # these checkpoints say as little as those of an earlier version
        (90, 512 * 90, 0.3, 0.2, 0.7),
    ], "not every seed lived to see 80 passes"


# -- the experiment --------------------------------------------------------------------------------------------------


def test_another_spec_under_the_same_name_is_refused(tmp_path: Path) -> None:
    AblationStore.claim(parse_ablation({**SPEC, "seeds": [7]}), tmp_path)
    store = AblationStore.claim(parse_ablation(SPEC), tmp_path)  # nothing was run: a mistake may be mended
    store.put(parse_ablation(SPEC).cells()[0], ())
    AblationStore.claim(parse_ablation(SPEC), tmp_path)
    with pytest.raises(InvalidSpec, match=r"seeds, checkpoints changed since .*small was begun"):
        AblationStore.claim(parse_ablation({**SPEC, "seeds": [0, 1, 2], "checkpoints": []}), tmp_path)
    AblationStore.claim(parse_ablation({**SPEC, "name": "other", "seeds": [0]}), tmp_path)


@pytest.fixture(scope="module")
def no_ray_after() -> Iterator[None]:
    """Leaves no Ray behind that was not there before."""
    was_there = ray.is_initialized()
    yield
    if not was_there:
        shutdown_ray()


def start(spec_path: Path, output: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "api.cli", "ablate", str(spec_path), "-o", str(output)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def essence(found: Ablation) -> list[dict[str, object]]:
    """All but what the clock says."""
    rows = [asdict(replace(cell, seconds=0.0)) for cell in found.cells]
    return [*rows, *map(asdict, found.baselines)]


def kill_after_first_cell(spec_path: Path, output: Path, cells: Path) -> None:
    """Run the command until a cell is finished, and SIGKILL it."""
    running = start(spec_path, output)
    deadline = time.monotonic() + 240
    while not list(cells.glob("cell-*.json")):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline, "no cell was finished"
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()


@pytest.mark.usefixtures("no_ray_after")
@pytest.mark.timeout(900)  # starts Ray several times: two minutes, more on a busy machine
def test_an_experiment_goes_on_after_a_kill_and_after_failures(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, late = Path(spec["base"]["objective"]["corpus"]), tmp_path / "late.txt"
    late.write_text(corpus.read_text())
    few = {"label": "few documents", "strategy": EVOLUTION, "objective": {"documents": 2, "corpus": str(late)}}
    slow = {"label": "auto", "strategy": {**AUTO, "generations": 12, "min_gain": 0.0}}
    spec_path = tmp_path / "spec.json"
    again = {**slow, "label": "auto again"}
    spec_path.write_text(json.dumps({**spec, "seeds": [1], "strategies": [slow, few, again]}))
    parsed = parse_ablation(json.loads(spec_path.read_text()))
    cells = parsed.cells()
    kill_after_first_cell(spec_path, tmp_path, tmp_path / "small" / "cells")
    store = AblationStore.claim(parsed, tmp_path)
    before = stamps(store, cells)
    assert 0 < len(before) < len(cells) - 1

    # It goes on, but a file is gone.
    late.unlink()
    with pytest.raises(InvalidSpec, match=r"few documents, .*late\.txt"):
        run_ablation(parsed, store)
    monkeypatch.setattr("service.ablations.run.check_ablation", lambda spec: None)
    broken = run_ablation(parsed, store)
    (failure,) = broken.failures
    assert failure.cell == "few documents, pocket, 512 tokens, seed 1"
    assert failure.reason.startswith("CorpusNotFound: ")
    assert [cell.label for cell in broken.cells] == ["auto", "auto again"], "others are not kept from running"
    between = stamps(store, cells)
    assert before.items() <= between.items(), "no finished cell is run again"

    # The file is back.
    late.write_text(corpus.read_text())
    heard: list[Cell] = []
    whole = run_ablation(parsed, store, on_cell=lambda cell, result: heard.append(cell))
    assert whole.failures == ()
    assert between.items() <= stamps(store, cells).items()
    assert {cell.name for cell in heard} == {cell.name for cell in cells}
    assert len(heard) == len(cells)

    undisturbed = AblationStore.claim(parsed, tmp_path / "undisturbed")
    for cell in cells:
        undisturbed.put(cell, run_cell(parsed, cell))
    assert len(whole.cells) == 3
    assert essence(whole) == essence(gather(parsed, undisturbed))


def stamps(store: AblationStore, cells: Sequence[Cell]) -> dict[str, int]:
    """When the file of each finished cell was written."""
    return {cell.name: store.path(cell).stat().st_mtime_ns for cell in store.finished(cells)}
