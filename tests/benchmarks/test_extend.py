"""The benchmark of extensions: its text objective, its stretches, and its report."""

from pathlib import Path

import pytest

from benchmarks.extend.arms import ARMS, LENGTHS, Bench, Cell, Outcome, Training, cells, write_outcome
from benchmarks.extend.report import write_report
from benchmarks.extend.stability import repeated_runs
from benchmarks.extend.text import TextScorer
from benchmarks.measuring import Measured
from evaluation.documents.windows import WindowScore
from evaluation.scores.score import DocumentScore
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from service.searches.model import prepare_model

LENGTH = 320


def test_a_text_stands_in_for_a_document_of_its_length_and_split() -> None:
    model = prepare_model("pocket", corpus=None, target_length=LENGTH)
    scorer = TextScorer(model, target_length=LENGTH)
    texts = []
    for split in ("search", "validation"):
        documents = model.documents(split=split, length=LENGTH, count=2, needles=1, seed=3)
        windows = [scorer.text_for(document) for document in documents]
        for window in windows:
            text = model.factory.tokenizer.decode(window.token_ids)
            assert text[10:-10] in model.corpus.split_text(split)  # tokens at the ends may be parts of characters
            assert "magic number" not in text
        scores = scorer.score(Scaling(RescaleFactors.identity(16), 1.0), documents)
        assert [(one.document_id, one.tokens) for one in scores] == [(one.id, LENGTH - 1) for one in documents]
        texts += [window.token_ids for window in windows]
    assert len(set(texts)) == 4
    scorer.close()


def test_runs_that_were_there_before() -> None:
    seen: set[tuple[int, ...]] = set()
    assert repeated_runs([1, 2, 3, 4, 5], seen) == 0.0
    assert repeated_runs([0, 1, 2, 3, 4, 9, 9, 9, 9, 9], seen) == pytest.approx(2 / 7)  # 1-4 again, 9999 twice


def test_the_report_has_what_is_there_and_nothing_else(tmp_path: Path) -> None:
    bench = Bench(store=tmp_path)
    wanted = cells([arm.label for arm in ARMS], [0, 1], [bench])
    assert len({cell.path for cell in wanted}) == len(wanted)
    for cell in wanted:
        if cell.arm.label in ("base", "found", "found, mixed"):
            write_outcome(cell, _outcome(cell))
    (tmp_path / "report.md").write_text("What it says.\n<!-- tables -->\nold tables")
    write_report(wanted, tmp_path / "report")
    text = (tmp_path / "report.md").read_text()
    assert "| exact match, 2048 tokens | >= 0.90 | 0.000 | 1.000 | 1.000 | 1.000 |" in text
    assert "| perplexity, 256 tokens | <= 2.76 | 2.72 | 2.72 | 2.72 | 2.72 |" in text
    assert "| found, mixed | found | -1.0000 [-1.0000, -1.0000]; -1.0000 [-1.0000, -1.0000] |" in text
    assert "NTK" not in text
    assert text.startswith("What it says.\n<!-- tables -->")
    assert "old tables" not in text
    assert (tmp_path / "report.png").stat().st_size > 10_000


def _outcome(cell: Cell) -> Outcome:
    trained = cell.arm.trained is not None
    needles = tuple(
        DocumentScore(document_id=f"d{index}", nats=7.0 if trained else 14.0, tokens=7, exact=trained)
        for index in range(4)
    )
    text = (WindowScore(window_id="w", nats=10.0, tokens=10, correct=1),)
    return Outcome(
        long_factor=(1.0,) * 16,
        attention_factor=1.0,
        measured=tuple(Measured(length=length, needles=needles, text=text) for length in LENGTHS),
        training=Training(steps=1, tokens=1, wall_seconds=1.0, cpu_seconds=60.0) if trained else None,
    )
