"""How well one set of scores ranks candidates that another set measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

SHARES = (0.05, 0.10, 0.25)


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Spearman's rank correlation over all candidates and over the half that is best by the measure.

    `kept`, for each of `SHARES`: the measure of the best candidate among that share of the cheapest-scored, over that
    of the best of all. 1: it is among them.
    """

    correlation: float
    best_half: float
    kept: tuple[float, ...]

    @classmethod
    def of(cls, cheap: NDArray[np.float64], measure: NDArray[np.float64]) -> Agreement:
        """Both (candidates,), lower is better."""
        order = np.argsort(measure, kind="stable")
        half = order[: max(len(order) // 2, 2)]
        by_cheap = np.argsort(cheap, kind="stable")
        counts = [max(round(share * len(order)), 1) for share in SHARES]
        return cls(
            correlation=_spearman(cheap, measure),
            best_half=_spearman(cheap[half], measure[half]),
            kept=tuple(float(measure[by_cheap[:count]].min() / measure.min()) for count in counts),
        )


def noise_ceiling(documents: NDArray[np.float64]) -> Agreement:
    """What noise alone leaves: the even documents of (candidates, documents) rank what the odd ones measure."""
    return Agreement.of(documents[:, ::2].mean(axis=1), documents[:, 1::2].mean(axis=1))


def mean_with_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _spearman(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    return float(spearmanr(left, right).statistic)
