"""What contenders keep of the unchanged model follows from the rows of the report."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from ropewalk.wire.evaluation import EvaluationReport, RetentionRow, TextRow
from service.evaluations.measures import MEASURES
from service.evaluations.ruler import effective_lengths

STORED = Path(__file__).parents[1] / "stored_results" / "evaluation.json"


def _retention(report: EvaluationReport) -> tuple[RetentionRow, ...]:
    return tuple(row for measure in MEASURES.values() for row in measure.retention(report))


def test_what_follows_from_stored_rows_is_what_was_stored() -> None:
    report = EvaluationReport.from_json(STORED.read_text())
    assert _retention(report) == report.retention != ()
    assert effective_lengths(report.ruler, report.threshold) == report.effective_lengths != {}


def test_a_perplexity_beyond_what_json_can_say_keeps_nothing() -> None:
    def text(name: str, nll: float, perplexity: float) -> TextRow:
        return TextRow(name=name, length=8, nll=nll, perplexity=perplexity, accuracy=0.5, windows=1, tokens=4)

    for before, after, kept in ((2.0, math.inf, 0.0), (math.inf, 2.0, sys.float_info.max), (math.inf, math.inf, 0.0)):
        rows = (text("none", 1.0, before), text("found factors", 1.0, after))
        report = EvaluationReport(model="pocket", original_length=8, target_length=16, rows=(), text=rows)
        found = report.model_copy(update={"retention": _retention(report)})
        (row,) = (one for one in EvaluationReport.from_json(found.to_json()).retention if one.measure == "perplexity")
        assert (row.before, row.after) == tuple(min(one, sys.float_info.max) for one in (before, after))
        assert row.kept == kept
