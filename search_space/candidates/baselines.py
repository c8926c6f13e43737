"""Analytic factor vectors at one target length: the seeds of every search and what its winner must beat.

Symbols as in :mod:`ropewalk.rope.config`; c is the critical pair, a ramp [low, high] is in pairs. None of the
functions here applies an attention factor; :func:`own_attention_factor` says what a method's paper pairs with its
factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ropewalk.rope.attention import yarn_attention_factor
from ropewalk.rope.config import RopeConfig, pair_with_periods, scale
from ropewalk.rope.critical_pair import theoretical_critical_pair
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.candidate import Candidate
from search_space.errors import InvalidStrategy

YARN_BETA_FAST = 32.0  # periods within L above which a pair is left alone
YARN_BETA_SLOW = 1.0  # periods within L below which a pair is fully interpolated

# A pair that shall not turn at all: its factor must stay finite for every consumer. At 1e6 the slowest pair of any
# model in use turns by far less than bfloat16 can tell apart from 1 over millions of positions.
COPE_LARGEST_FACTOR = 1e6


def _none(rope: RopeConfig, s: float, critical_pair: int) -> NDArray[np.float64]:
    """lambda_i = 1, shape (n,): the model as it is."""
    return np.ones(rope.num_pairs)


def _pi(rope: RopeConfig, s: float, critical_pair: int) -> NDArray[np.float64]:
    """lambda_i = s, shape (n,): position interpolation (arXiv 2306.15595 eq. 4); transformers' "linear"."""
    return np.full(rope.num_pairs, s)


def _ntk(rope: RopeConfig, s: float, critical_pair: int) -> NDArray[np.float64]:
    """lambda_i = s^(i / (n-1)), shape (n,): NTK-aware base change, i.e. base * s^(d/(d-2)) (YaRN paper eq. 16)."""
    result: NDArray[np.float64] = s ** (np.arange(rope.num_pairs) / max(rope.num_pairs - 1, 1))
    return result


def _ntk_critical(rope: RopeConfig, s: float, critical_pair: int) -> NDArray[np.float64]:
    """lambda_i = s^(i/c) for i < c, s from c on, shape (n,): LongRoPE2 (arXiv 2502.20082) section 4; its d_rcd is c."""
    return np.array(ntk_below(critical_pair, (s,) * (rope.num_pairs - critical_pair)))


def ntk_below(critical_pair: int, tail: tuple[float, ...]) -> tuple[float, ...]:
    """The whole vector of c + len(tail) factors from the factors of pairs c, c+1, ...

    Below c: lambda_i = lambda_c^(i/c), LongRoPE2 (arXiv 2502.20082) Algorithm 2 line 7. The same as the base that gives
    pair c its factor. (Algorithm 1 line 6 prints the ten-period pair for this step; the released factors fit c.)
    """
    return tuple(tail[0] ** (i / critical_pair) for i in range(critical_pair)) + tail


def yarn_ramp(rope: RopeConfig) -> tuple[int, int]:
    """Pairs [low, high] between "left alone" and "fully interpolated", whole as in transformers (truncate=True).

    YaRN (arXiv 2309.00071) eq. 23: low is the floor of the pair with 32 periods within L, high the ceil of that with 1.
    Clamped to 0 and rotary_dim - 1 as transformers does, so that high may lie beyond the last pair.
    """
    low = max(math.floor(pair_with_periods(rope, YARN_BETA_FAST)), 0)
    high = min(math.ceil(pair_with_periods(rope, YARN_BETA_SLOW)), rope.rotary_dim - 1)
    return low, high


def _yarn(rope: RopeConfig, s: float, critical_pair: int) -> NDArray[np.float64]:
    """1/lambda_i = r_i/s + (1 - r_i) with r the linear ramp, shape (n,): YaRN (arXiv 2309.00071) eq. 23 as factors."""
    return _yarn_between(rope.num_pairs, s, *yarn_ramp(rope))


def _yarn_critical(rope: RopeConfig, s: float, critical_pair: int) -> NDArray[np.float64]:
    """YaRN whose ramp ends at c instead of at the one-period pair, shape (n,): LongRoPE2 table 5, YaRN at d_rcd."""
    low, _ = yarn_ramp(rope)
    return _yarn_between(rope.num_pairs, s, min(low, critical_pair), critical_pair)


def _yarn_between(num_pairs: int, s: float, low: float, high: float) -> NDArray[np.float64]:
    if low == high:
        high += 0.001  # as transformers: a step instead of a division by zero
    ramp = np.clip((np.arange(num_pairs) - low) / (high - low), 0.0, 1.0)
    result: NDArray[np.float64] = 1.0 / (ramp / s + (1.0 - ramp))
    return result


def _mrrope_pro(rope: RopeConfig, s: float, critical_pair: int) -> NDArray[np.float64]:
    """lambda_i = s^(sum of eps_j over ramp pairs j < i), shape (n,): MrRoPE-Pro (arXiv 2601.22181).

    eps_j = 2 (1 + j - low) / ((1 + w) w) on YaRN's ramp [low, high) of w = high - low pairs; the eps sum to 1, so that
    lambda goes from 1 at low to s at high. With k = i - low pairs passed the sum is k (k+1) / (w (w+1)).
    """
    low, high = yarn_ramp(rope)
    width = max(high - low, 1)
    passed = np.clip(np.arange(rope.num_pairs) - low, 0, width)
    result: NDArray[np.float64] = s ** (passed * (passed + 1) / (width * (width + 1)))
    return result


def _cope(rope: RopeConfig, s: float, critical_pair: int) -> NDArray[np.float64]:
    """1/lambda_i = (1 + cos(pi (i-c) / (n-1-c))) / 2 from c on, 1 below, shape (n,): after CoPE (arXiv 2602.05258).

    Tapers the pairs whose period exceeds L (the authors' code always takes the last 20) down to no rotation, here to
    factors of at most ``COPE_LARGEST_FACTOR``. Does not depend on s.
    """
    pairs_left = max(rope.num_pairs - 1 - critical_pair, 1)
    angle = np.clip((np.arange(rope.num_pairs) - critical_pair) / pairs_left, 0.0, 1.0) * math.pi
    weight = 0.5 * (1.0 + np.cos(angle))
    result: NDArray[np.float64] = 1.0 / np.maximum(weight, 1.0 / COPE_LARGEST_FACTOR)
    return result


_FORMULAS: dict[str, Callable[[RopeConfig, float, int], NDArray[np.float64]]] = {
    "none": _none,
    "pi": _pi,
    "ntk": _ntk,
    "ntk_critical": _ntk_critical,
    "yarn": _yarn,
    "yarn_critical": _yarn_critical,
    "mrrope_pro": _mrrope_pro,
    "cope": _cope,
}
BASELINE_NAMES: tuple[str, ...] = tuple(_FORMULAS)
_USES_CRITICAL_PAIR = frozenset({"ntk_critical", "yarn_critical", "cope"})


def baseline(name: str, rope: RopeConfig, target_length: int, *, critical_pair: int | None = None) -> Candidate:
    """The baseline called `name` at `target_length`, with attention factor 1.

    `critical_pair` moves the baselines that have one; without it, as in a search that has still to find one, they take
    the theoretical one. There YaRN at the critical pair is YaRN, whose ramp ends at that pair.

    Raises:
        InvalidStrategy: unknown name, or `critical_pair` is not a pair of `rope`.
        InvalidTargetLength: `target_length` is shorter than the original length.
    """
    _check_name(name)
    pair = theoretical_critical_pair(rope) if critical_pair is None else critical_pair
    if not 0 <= pair < rope.num_pairs:
        raise InvalidStrategy(f"critical_pair must be a pair in [0, {rope.num_pairs}), but got critical_pair={pair}")
    # The formulas never fall below 1 by more than rounding noise.
    values = np.maximum(_FORMULAS[name](rope, scale(rope, target_length), pair), 1.0)
    return Candidate(
        scaling=Scaling(RescaleFactors(tuple(values.tolist()))),
        critical_pair=pair if name in _USES_CRITICAL_PAIR else None,
        origin=f"baseline:{name}",
    )


def baselines(rope: RopeConfig, target_length: int, *, critical_pair: int | None = None) -> tuple[Candidate, ...]:
    """Every baseline, in the order of ``BASELINE_NAMES``."""
    return tuple(baseline(name, rope, target_length, critical_pair=critical_pair) for name in BASELINE_NAMES)


def own_attention_factor(name: str, rope: RopeConfig, target_length: int) -> float:
    """The attention factor that the method's paper pairs with its factors: YaRN's for both YaRNs, else 1."""
    _check_name(name)
    s = scale(rope, target_length)
    return yarn_attention_factor(s) if name in ("yarn", "yarn_critical") else 1.0


def _check_name(name: str) -> None:
    if name not in _FORMULAS:
        raise InvalidStrategy(f"baseline must be one of {', '.join(BASELINE_NAMES)}, but got {name!r}")
