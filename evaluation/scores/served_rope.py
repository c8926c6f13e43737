"""The RoPE that a server of an extended model runs with: decided by the length of what is read."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedRope:
    """Original RoPE up to `original_length` tokens, `scaling` past it (LongRoPE2, arXiv 2502.20082, section 3.3).

    The attention factor stays on for short inputs: transformers applies the exported one on both sides.
    """

    original_length: int
    scaling: Scaling

    def is_long(self, length: int) -> bool:
        """Whether a forward pass that ends at token number `length` uses the long factors."""
        return length > self.original_length

    def at(self, length: int) -> Scaling:
        """Of a forward pass over `length` tokens, prompt and generated ones together."""
        if self.is_long(length):
            return self.scaling
        return replace(self.scaling, factors=RescaleFactors.identity(len(self.scaling.factors)))
