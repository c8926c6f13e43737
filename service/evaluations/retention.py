"""What contenders keep of the unchanged model at lengths that it was trained for."""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from evaluation.scores.retention import retention
from ropewalk.wire.evaluation import EvaluationReport, RetentionRow
from service.evaluations.contenders import BASE
from service.evaluations.figure import Figure


def kept(
    measure: str, values: Mapping[tuple[str, int], float] | Mapping[tuple[str, None], float], *, less_is_better: bool
) -> Iterator[RetentionRow]:
    """A row for each (contender, length) that the unchanged model has a value for too; None: of no length."""
    known: dict[tuple[str, int | None], float] = {key: _unbounded(value) for key, value in values.items()}
    for (name, length), after in known.items():
        if name != BASE and (before := known.get((BASE, length))) is not None:
            found = retention(measure, before=before, after=after, less_is_better=less_is_better)
            yield RetentionRow(name=name, length=length, **asdict(found))


def kept_within(report: EvaluationReport, measure: str, figure: Figure) -> Iterator[RetentionRow]:
    """Of a figure, at lengths up to the original one."""
    short = {key: value for key, value in figure.values(report).items() if key[1] <= report.original_length}
    return kept(measure, short, less_is_better=figure.less_is_better)


def _unbounded(value: float) -> float:
    """A report holds the largest number in place of infinity."""
    return math.inf if value == sys.float_info.max else value
