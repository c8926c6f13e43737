"""What contenders keep of the unchanged model at lengths that it was trained for."""

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from evaluation.scores.retention import retention
from service.evaluations.contenders import BASE
from service.evaluations.report import EvaluationReport, HarnessRow, RetentionRow


def retention_rows(report: EvaluationReport) -> Iterator[RetentionRow]:
    """Each measure of `report`, contender by contender and length by length."""
    original = report.original_length
    needles = [row for row in report.rows if row.length <= original]
    yield from _kept("needle exact match", ((row.name, row.length, row.exact_match) for row in needles))
    ruler = [row for row in report.ruler if row.length <= original]
    yield from _kept("RULER average", ((row.name, row.length, row.average) for row in ruler))
    text = [row for row in report.text if row.length <= original]
    yield from _kept("next-token accuracy", ((row.name, row.length, row.accuracy) for row in text))
    yield from _kept("perplexity", ((row.name, row.length, row.perplexity) for row in text), less_is_better=True)
    for task, metric, higher in dict.fromkeys(map(_key, report.harness)):
        same = [row for row in report.harness if _key(row) == (task, metric, higher)]
        yield from _kept(f"{task}: {metric}", ((row.name, None, row.value) for row in same), less_is_better=not higher)


def _kept(
    measure: str, values: Iterable[tuple[str, int | None, float]], *, less_is_better: bool = False
) -> Iterator[RetentionRow]:
    known = [(name, length, _unbounded(value)) for name, length, value in values]
    before = {length: value for name, length, value in known if name == BASE}
    for name, length, after in known:
        if name != BASE and length in before:
            kept = retention(measure, before=before[length], after=after, less_is_better=less_is_better)
            yield RetentionRow(name=name, length=length, **asdict(kept))


def _unbounded(value: float) -> float:
    """A report holds the largest number in place of infinity."""
    return math.inf if value == sys.float_info.max else value


def _key(row: HarnessRow) -> tuple[str, str, bool]:
    return row.task, row.metric, row.higher_is_better
