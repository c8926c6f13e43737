"""A number that a measure has by contender and length: drawn on the report page, and compared for retention."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ropewalk.wire.evaluation import EvaluationReport

Unit = Literal["nats", "perplexity", "share", "percent"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One number. rows and field: where it is in the report. axis: what a chart says beside it, from `low` to `high`
    where they are given. glance: its title in the summary of all measures, where its longest length is; None leaves it
    out. level: a (value, name) that charts draw."""

    title: str
    axis: str
    rows: str
    field: str
    unit: Unit
    less_is_better: bool = False
    low: float | None = None
    high: float | None = None
    glance: str | None = None
    level: Callable[[EvaluationReport], tuple[float, str]] | None = None

    def values(self, report: EvaluationReport) -> dict[tuple[str, int], float]:
        """By (contender, length)."""
        return {(row.name, row.length): getattr(row, self.field) for row in getattr(report, self.rows)}
