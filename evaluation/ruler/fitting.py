"""How much haystack fits."""

from __future__ import annotations

from collections.abc import Callable

TokenCount = Callable[[str], int]
"""text -> its tokens"""


def largest_fitting(cost: Callable[[int], int], *, budget: int, least: int, most: int | None = None) -> int | None:
    """The largest amount n in [least, most] with cost(n) <= budget; None when not even `least` fits.

    For a `cost` that grows about in proportion to n, and never falls much: then a few calls are enough, by doubling and
    by linear interpolation between what fits and what does not, which bisection helps out. Where cost is not
    monotone, the result still fits, but a larger amount may fit too.
    """
    low, at_low = least, cost(least)
    if at_low > budget:
        return None
    high, at_high = low, at_low
    while at_high <= budget:
        low, at_low = high, at_high
        if most is not None and low >= most:
            return low
        high = 2 * max(low, 1) if most is None else min(2 * max(low, 1), most)
        at_high = cost(high)
    return _between(cost, budget=budget, low=low, at_low=at_low, high=high, at_high=at_high)


def _between(cost: Callable[[int], int], *, budget: int, low: int, at_low: int, high: int, at_high: int) -> int:
    """`low` fits, `high` does not."""
    interpolate = True
    while high - low > 1:
        share = (budget - at_low) / (at_high - at_low) if interpolate else 0.5
        middle = min(max(low + int(share * (high - low)), low + 1), high - 1)
        found = cost(middle)
        # A step that left most of the interval open is followed by one that halves it.
        interpolate = not interpolate or min(middle - low, high - middle) * 4 >= high - low
        if found <= budget:
            interpolate = interpolate or (high - middle) * 2 < high - low
            low, at_low = middle, found
        else:
            interpolate = interpolate or (middle - low) * 2 < high - low
            high, at_high = middle, found
    return low
