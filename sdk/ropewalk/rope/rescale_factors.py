"""The factor vector: one number per cos/sin pair."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import InvalidRescaleFactors


@dataclass(frozen=True, slots=True)
class RescaleFactors:
    """lambda_i, i.e. ``long_factor[i]`` in a Hugging Face config: pair i turns lambda_i times slower than trained.

    Constraints, all checked on construction (:class:`InvalidRescaleFactors`): at least one value, every value a finite
    number of at least 1, non-decreasing from the fastest pair to the slowest. Values are kept as Python floats.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(_checked(i, value) for i, value in enumerate(self.values)))
        if not self.values:
            raise InvalidRescaleFactors("rescale factors must hold at least one value, but got none")
        for i, (left, right) in enumerate(pairwise(self.values)):
            if right < left:
                raise InvalidRescaleFactors(
                    f"rescale factors must be non-decreasing, but got values[{i}]={left!r}, values[{i + 1}]={right!r}"
                )

    @classmethod
    def identity(cls, num_pairs: int) -> RescaleFactors:
        """Factors that change nothing: 1.0 for every pair."""
        return cls((1.0,) * num_pairs)

    def __len__(self) -> int:
        return len(self.values)

    def as_array(self) -> NDArray[np.float64]:
        """The values as a fresh float64 array of shape (num_pairs,)."""
        return np.array(self.values, dtype=np.float64)

    def check_fits(self, num_pairs: int) -> None:
        """Raise :class:`InvalidRescaleFactors` unless there is exactly one factor for each of `num_pairs` pairs."""
        if len(self.values) != num_pairs:
            raise InvalidRescaleFactors(
                f"rescale factors must hold one value per pair (rotary_dim / 2 = {num_pairs}), "
                f"but got {len(self.values)} values"
            )


def _checked(index: int, value: object) -> float:
    """`value` as a float, if it is a finite real number of at least 1."""
    if type(value) is float and 1.0 <= value < math.inf:  # nearly always, and pages hold thousands
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidRescaleFactors(f"rescale factors must be numbers, but got values[{index}]={value!r}")
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond float's range
        number = math.inf
    if not math.isfinite(number):
        raise InvalidRescaleFactors(f"rescale factors must be finite, but got values[{index}]={number!r}")
    if number < 1.0:
        raise InvalidRescaleFactors(f"rescale factors must be at least 1, but got values[{index}]={number!r}")
    return number
