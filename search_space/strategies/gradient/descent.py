"""Stochastic gradient descent over factor vectors.

A point is ln lambda_0 .. ln lambda_(n-1), ln A: shape (n + 1,). In logarithms a step means the same to a small factor
and to a large one, and the vectors that are allowed are a convex set: a mean of points is a point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.candidate import Candidate

# Adam's own (arXiv 1412.6980), but for the memory of squares: a search has tens of steps and not thousands.
_MEAN_DECAY = 0.9
_SQUARE_DECAY = 0.99
_TINY = 1e-12  # nats per token: far below any derivative that says something

# Tells apart what a score can tell apart, and not the rounding of two machines.
_DECIMALS = 9


def point_of(candidate: Candidate) -> NDArray[np.float64]:
    """Where a candidate is, (n + 1,)."""
    scaling = candidate.scaling
    point: NDArray[np.float64] = np.log(np.append(scaling.factors.as_array(), scaling.attention_factor))
    return point


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Region:
    """The points that a descent from `start` may visit.

    Pairs before `free_from` keep the start's factors; from there on they are non-decreasing and not below the pair
    before. A is in [low, high] of `attention`, or keeps the start's value.
    """

    start: Candidate
    free_from: int
    attention: tuple[float, float] | None

    def project(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """The nearest point of the region, both (n + 1,)."""
        projected, free = point_of(self.start), self.free_from
        floor = projected[free - 1] if free else 0.0
        # A least-squares fit, clipped, is the fit under that bound too.
        projected[free:-1] = np.maximum(isotonic_regression(point[free:-1]).x, floor)
        if self.attention is not None:
            projected[-1] = np.clip(point[-1], *np.log(self.attention))
        return projected

    def scaling(self, point: NDArray[np.float64]) -> Scaling:
        """The scaling at a point of the region; factors of pairs that may not move are the start's to the last bit."""
        values = np.round(np.exp(point[:-1]), _DECIMALS)
        values[: self.free_from] = self.start.scaling.factors.values[: self.free_from]
        factors = RescaleFactors(tuple(np.maximum.accumulate(np.maximum(values, 1.0)).tolist()))
        return Scaling(factors, self._attention_factor(point))

    def _attention_factor(self, point: NDArray[np.float64]) -> float:
        if self.attention is None:
            return self.start.scaling.attention_factor
        low, high = self.attention
        return min(max(round(float(np.exp(point[-1])), _DECIMALS), low), high)


def adam_direction(gradients: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The step after the last of `gradients`, of about 1 in every coordinate: Adam (arXiv 1412.6980, Algorithm 1).

    `gradients` are all of them in order, each (n + 1,) like the result: no moments are kept from call to call.
    """
    mean, square = np.zeros_like(gradients[0]), np.zeros_like(gradients[0])
    for gradient in gradients:
        mean = _MEAN_DECAY * mean + (1.0 - _MEAN_DECAY) * gradient
        square = _SQUARE_DECAY * square + (1.0 - _SQUARE_DECAY) * gradient**2
    # Both start at 0: what they lack of their weight is made up for.
    mean /= 1.0 - _MEAN_DECAY ** len(gradients)
    square /= 1.0 - _SQUARE_DECAY ** len(gradients)
    direction: NDArray[np.float64] = -mean / (np.sqrt(square) + _TINY)
    return direction


def tail_mean(points: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean of the later half of `points`, of two at least where there are two.

    Averages of a descent's path are as good as the best step size would have made its end (Polyak and Juditsky 1992);
    the first half is left out because it remembers the start (suffix averaging, Rakhlin et al. 2012).
    """
    count = max(2, (len(points) + 1) // 2)
    return np.asarray(np.mean(points[-count:], axis=0))
