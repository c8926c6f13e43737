"""Factor vectors by a few numbers: where the curve turns, how it gets there, how high, and how it goes on.

The paper's genes have one number per pair from the critical pair on and a fixed curve below it. On few documents so
many numbers fit noise, and the fixed curve is what keeps them from the best vectors: see `benchmarks/reports/`. A shape
has four numbers for all pairs, and the attention factor as a fifth where it is searched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from ropewalk.rope.config import RopeConfig, scale
from ropewalk.rope.critical_pair import ten_period_critical_pair, theoretical_critical_pair
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.candidate import Candidate, Gene
from search_space.errors import InvalidStrategy
from search_space.strategies.base import StrategyContext

CRITICAL_PAIR = "critical_pair"
HEAD_EXPONENT = "head_exponent"
TAIL_MULTIPLE = "tail_multiple"
TAIL_SLOPE = "tail_slope"
ATTENTION_FACTOR = "attention_factor"

# Of genes: what two machines may differ in by rounding is far finer than what a score can tell apart.
_DECIMALS = 6
# Twice YaRN's 0.1 ln s + 1: room on the far side of the rule of thumb.
_ATTENTION_REACH = 0.2


def shape_factors(
    num_pairs: int, s: float, *, critical_pair: float, head_exponent: float, tail_multiple: float, tail_slope: float
) -> NDArray[np.float64]:
    """lambda_i, shape (num_pairs,), non-decreasing and at least 1.

    With c the critical pair (any real number in (0, n-1)), p the exponent, m the multiple of s and k the slope:
    lambda_i = (s m)^((i/c)^p) for i < c, and s m (1 + k (i-c) / (n-1-c)) from c on; below 1, it is 1. p = 1, m = 1,
    k = 0 is NTK at c (LongRoPE2, arXiv 2502.20082, section 4); p > 1 leaves fast pairs alone as YaRN's ramp does.
    No attention factor is applied.
    """
    pairs = np.arange(num_pairs)
    head = (s * tail_multiple) ** (np.minimum(pairs / critical_pair, 1.0) ** head_exponent)
    tail = 1.0 + tail_slope * np.clip((pairs - critical_pair) / (num_pairs - 1 - critical_pair), 0.0, None)
    # Where s m < 1 the head falls towards c: the running maximum keeps it at 1.
    result: NDArray[np.float64] = np.maximum.accumulate(np.maximum(head * tail, 1.0))
    return result


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One number of a shape and its range; `log` spreads it evenly over the ratio instead of the difference."""

    name: str
    low: float
    high: float
    log: bool = False

    def value(self, unit: float) -> float:
        """From [0, 1] to the range, rounded to what a gene keeps."""
        unit = min(max(unit, 0.0), 1.0)
        if self.log:
            found = math.exp(math.log(self.low) + unit * math.log(self.high / self.low))
        else:
            found = self.low + unit * (self.high - self.low)
        return min(max(round(found, _DECIMALS), self.low), self.high)

    def unit(self, value: float) -> float:
        """Back to [0, 1]."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapeSpace:
    """The shapes of one search: its axes, in the order of the points that they are given as."""

    rope: RopeConfig
    target_length: int
    axes: tuple[Axis, ...]
    fixed_attention_factor: float | None

    @classmethod
    def of(cls, context: StrategyContext) -> ShapeSpace:
        """The shapes of a model at a target length.

        The critical pair goes from the ten-period one to as far beyond the theoretical one: on the pocket model the
        best shapes turn past it. A searched attention factor lies in [1, 1 + 0.2 ln s].

        Raises:
            InvalidStrategy: fewer than four pairs, or a target length that is the original one: there is no shape.
        """
        rope, s = context.rope, scale(context.rope, context.target_length)
        if s <= 1.0 or rope.num_pairs < 4:
            raise InvalidStrategy(
                "a shape needs at least 4 pairs and a target length above the original one, "
                f"but got num_pairs={rope.num_pairs}, target_length={context.target_length}"
            )
        axes = [
            _critical_pair_axis(rope),
            Axis(name=HEAD_EXPONENT, low=0.5, high=8.0, log=True),
            Axis(name=TAIL_MULTIPLE, low=0.5, high=2.0, log=True),
            Axis(name=TAIL_SLOPE, low=0.0, high=2.0),
        ]
        if context.attention_factor is None:
            # The shortest extensions of the longest models still have a range.
            high = 1.0 + max(_ATTENTION_REACH * math.log(s), 10.0**-_DECIMALS)
            axes.append(Axis(name=ATTENTION_FACTOR, low=1.0, high=round(high, _DECIMALS)))
        return cls(
            rope=rope,
            target_length=context.target_length,
            axes=tuple(axes),
            fixed_attention_factor=context.attention_factor,
        )

    def spread(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """`count` points (count, axes) that leave no large gap: the beginning of a scrambled Sobol sequence."""
        sequence = qmc.Sobol(len(self.axes), rng=rng)
        found: NDArray[np.float64] = sequence.random_base2(max(math.ceil(math.log2(count)), 0))[:count]
        return found

    def no_points(self) -> NDArray[np.float64]:
        """An empty array of points, (0, axes)."""
        return np.empty((0, len(self.axes)))

    def log_factors(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """ln lambda, shape (num_pairs,), of the shape at `point`, one number in [0, 1] for each of the first axes."""
        values = {axis.name: axis.value(unit) for axis, unit in zip(self.axes, point.tolist(), strict=False)}
        factors: NDArray[np.float64] = np.log(self._factors(values))
        return factors

    def candidate(self, point: Sequence[float], *, origin: str, parents: tuple[int, ...] = ()) -> Candidate:
        """The shape at `point`, one number in [0, 1] for each axis, as something to score."""
        return self.candidate_of(
            {axis.name: axis.value(unit) for axis, unit in zip(self.axes, point, strict=True)},
            origin=origin,
            parents=parents,
        )

    def candidate_of(self, values: dict[str, float], *, origin: str, parents: tuple[int, ...] = ()) -> Candidate:
        """The shape with these values of the axes."""
        factors = self._factors(values)
        fixed = self.fixed_attention_factor
        return Candidate(
            scaling=Scaling(
                RescaleFactors(tuple(factors.tolist())), values[ATTENTION_FACTOR] if fixed is None else fixed
            ),
            critical_pair=math.ceil(values[CRITICAL_PAIR]),
            genes=tuple(
                Gene(name=axis.name, value=values[axis.name], low=axis.low, high=axis.high) for axis in self.axes
            ),
            origin=origin,
            parents=parents,
        )

    def _factors(self, values: Mapping[str, float]) -> NDArray[np.float64]:
        return shape_factors(
            self.rope.num_pairs,
            scale(self.rope, self.target_length),
            critical_pair=values[CRITICAL_PAIR],
            head_exponent=values[HEAD_EXPONENT],
            tail_multiple=values[TAIL_MULTIPLE],
            tail_slope=values[TAIL_SLOPE],
        )

    def point(self, candidate: Candidate) -> NDArray[np.float64]:
        """Back from a candidate's genes: (axes,) in [0, 1].

        Raises:
            InvalidStrategy: the genes are not those of this space.
        """
        values = {gene.name: gene.value for gene in candidate.genes}
        if set(values) != {axis.name for axis in self.axes}:
            raise InvalidStrategy(f"a candidate's genes must be those of the shape space, but got {list(values)}")
        return np.array([axis.unit(values[axis.name]) for axis in self.axes])


def _critical_pair_axis(rope: RopeConfig) -> Axis:
    ten_period, theoretical = ten_period_critical_pair(rope), theoretical_critical_pair(rope)
    # The curve turns before the last pair: there must be one to rise towards.
    low = min(max(ten_period, 1), rope.num_pairs - 3)
    high = min(max(2 * theoretical - low, low + 1), rope.num_pairs - 2)
    return Axis(name=CRITICAL_PAIR, low=float(low), high=float(high))
