"""Where in the shape space a formula lies: what is known of it before anything was scored there."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from ropewalk.rope.config import scale
from search_space.candidates.candidate import Candidate
from search_space.candidates.start import Start
from search_space.strategies.shape_space import ATTENTION_FACTOR, ShapeSpace

# Root mean square of the difference in ln lambda up to which a shape stands for a formula.
_CLOSE = 0.06
# The curve has kinks where the critical pair crosses a pair: a finer step would see none of them.
_STEP = 1e-4
_STARTS = 8


def nearest_point(space: ShapeSpace, candidate: Candidate) -> NDArray[np.float64] | None:
    """The point (axes,) of the shape closest to `candidate` in ln lambda, at its attention factor.

    None where no shape is close: within 0.06 root mean square over the pairs, and its attention factor on the axis.
    """
    scaling = candidate.scaling
    found = _nearest(space, scaling.factors.values)
    if found is None:
        return None
    attention = [axis for axis in space.axes if axis.name == ATTENTION_FACTOR]
    if any(not axis.low <= scaling.attention_factor <= axis.high for axis in attention):
        return None
    return np.array([*found, *(axis.unit(scaling.attention_factor) for axis in attention)])


def start_point(space: ShapeSpace, start: Start) -> NDArray[np.float64]:
    """The point (axes,) of the shape closest to what another search found, mapped to this one's scale."""
    s = scale(space.rope, space.target_length)
    found, _ = _fit(space, tuple(np.maximum(start.factors(s), 1.0).tolist()))
    attention = [axis for axis in space.axes if axis.name == ATTENTION_FACTOR]
    wanted = start.attention_factor(s)
    return np.array([*found, *(axis.unit(min(max(wanted, axis.low), axis.high)) for axis in attention)])


@functools.lru_cache(maxsize=256)
def _nearest(space: ShapeSpace, factors: tuple[float, ...]) -> tuple[float, ...] | None:
    """The best of least squares from a few spread starts, on the axes of the factors."""
    wanted = np.log(factors)
    if not _can_be_close(space, wanted):
        return None
    point, away = _fit(space, factors)
    return point if away <= _CLOSE else None


@functools.lru_cache(maxsize=256)
def _fit(space: ShapeSpace, factors: tuple[float, ...]) -> tuple[tuple[float, ...], float]:
    """The point on the axes of the factors, and how far it is, root mean square in ln lambda."""
    from scipy.optimize import least_squares  # a second of imports, which a search alone needs

    wanted = np.log(factors)
    axes = sum(axis.name != ATTENTION_FACTOR for axis in space.axes)

    def residuals(units: NDArray[np.float64]) -> NDArray[np.float64]:
        difference: NDArray[np.float64] = space.log_factors(units) - wanted
        return difference

    starts = space.spread(_STARTS, np.random.default_rng(0))[:, :axes].clip(0.01, 0.99)
    fits = [least_squares(residuals, start, bounds=(0.0, 1.0), diff_step=[_STEP] * axes) for start in starts]
    best = min(fits, key=lambda fit: float(fit.cost))
    return tuple(best.x.tolist()), math.sqrt(2.0 * best.cost / len(factors))


def _can_be_close(space: ShapeSpace, wanted: NDArray[np.float64]) -> bool:
    """Whether the first and the last pair alone leave room: every shape leaves the first as it is, and the last lies
    between those of the lowest and of the highest shape. No scaling, PI and CoPE are told apart without a fit."""
    lowest, highest = (space.log_factors(np.full(len(space.axes), unit))[-1] for unit in (0.0, 1.0))
    away = np.array([wanted[0], wanted[-1] - np.clip(wanted[-1], lowest, highest)])
    return bool(np.sqrt(np.sum(away**2) / len(wanted)) <= _CLOSE)
