"""What is left of a model's quality within its original length, in percent of the unchanged model."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """One measure before and after. kept: percent, 100 for no change, above it where the changed model is better;
    None where nothing was there to keep."""

    measure: str
    before: float
    after: float
    kept: float | None


def retention(measure: str, *, before: float, after: float, less_is_better: bool = False) -> Retention:
    """kept = 100 * after / before, or 100 * before / after where less is better (perplexity).

    Both numbers are at least 0; an infinite perplexity keeps nothing.
    """
    numerator, denominator = (before, after) if less_is_better else (after, before)
    kept = 100.0 * (numerator / denominator) if 0.0 < denominator < math.inf else (0.0 if less_is_better else None)
    return Retention(measure=measure, before=before, after=after, kept=kept)
