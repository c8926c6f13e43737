"""What a candidate changes of a model's rotary embedding, in one value."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ropewalk.errors import InvalidRescaleFactors
from ropewalk.rope.rescale_factors import RescaleFactors

ScalingKey = tuple[tuple[float, ...], float]
"""Factors and attention factor: all that a score can depend on."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Rescale factors, and the number that cos and sin are multiplied by, which is finite and positive.

    Raises:
        InvalidRescaleFactors: an attention factor that is not.
    """

    factors: RescaleFactors
    attention_factor: float = 1.0

    def __post_init__(self) -> None:
        if not is_attention_factor(self.attention_factor):
            raise InvalidRescaleFactors(
                f"attention_factor must be finite and positive, but got attention_factor={self.attention_factor!r}"
            )

    @classmethod
    def identity(cls, num_pairs: int) -> Scaling:
        """The model as it is."""
        return cls(RescaleFactors.identity(num_pairs))

    @property
    def key(self) -> ScalingKey:
        """Equal for what is the same to score, wherever it comes from."""
        return self.factors.values, self.attention_factor

    def check_fits(self, num_pairs: int) -> None:
        """Raise :class:`InvalidRescaleFactors` unless there is exactly one factor for each of `num_pairs` pairs."""
        self.factors.check_fits(num_pairs)


def is_attention_factor(value: float) -> bool:
    """Whether cos and sin can be multiplied by `value`."""
    return math.isfinite(value) and value > 0
