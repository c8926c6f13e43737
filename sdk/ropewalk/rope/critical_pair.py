"""Where rotation stops being seen in full: the pairs whose period outgrows the training length.

LongRoPE2 (arXiv 2502.20082) eq. 7 and Algorithm 1, in pairs. Symbols as in :mod:`ropewalk.rope.config`.
"""

from __future__ import annotations

import math

from ropewalk.rope.config import RopeConfig, pair_with_periods

# Rounding noise of the logarithm must not push an exact whole number up to the next pair.
_CEIL_TOLERANCE = 1e-9


def theoretical_critical_pair(rope: RopeConfig) -> int:
    """First pair that completes at most one period within L, in [0, n-1]: ceil(n * log_rope_theta(L / (2 pi)))."""
    return _pair_with_periods(rope, periods=1)


def ten_period_critical_pair(rope: RopeConfig) -> int:
    """First pair that completes at most ten periods within L: ceil(n * log_rope_theta(L / (20 pi))), in [0, n-1]."""
    return _pair_with_periods(rope, periods=10)


def _pair_with_periods(rope: RopeConfig, *, periods: float) -> int:
    """ceil of :func:`ropewalk.rope.config.pair_with_periods`, clamped to existing pairs.

    Clamped at 0 when even the fastest pair turns less often, at n-1 when even the slowest one turns more often: a
    critical pair is always a pair, so that its factor exists.
    """
    exact = pair_with_periods(rope, periods)
    return min(max(math.ceil(exact - _CEIL_TOLERANCE), 0), rope.num_pairs - 1)
