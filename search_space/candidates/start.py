"""A shape that another search found, as something to begin with at another length."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ropewalk.rope.scaling import Scaling
from search_space.errors import InvalidStrategy


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A scaling that was found where the target length was `scale` times the original one.

    Raises:
        InvalidStrategy: `scale` is no number above 1.
    """

    scaling: Scaling
    scale: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 1.0):
            raise InvalidStrategy(f"the scale of a start must be above 1, but got scale={self.scale}")

    def factors(self, s: float) -> NDArray[np.float64]:
        """lambda_i at a scale of `s`, shape (num_pairs,): 1 + (lambda_i - 1) (s - 1) / (scale - 1), as in LongRoPE's
        released code (microsoft/LongRoPE). No scaling stays none, and interpolation stays interpolation."""
        result: NDArray[np.float64] = 1.0 + (self.scaling.factors.as_array() - 1.0) * ((s - 1.0) / (self.scale - 1.0))
        return result

    def attention_factor(self, s: float) -> float:
        """A at a scale of `s`: 1 + (A - 1) ln s / ln scale, as YaRN's 0.1 ln s + 1 grows (arXiv 2309.00071 eq. 22)."""
        return 1.0 + (self.scaling.attention_factor - 1.0) * (math.log(s) / math.log(self.scale))
