"""The RoPE that a server of an extended model runs with: decided by the length of what is read."""

from __future__ import annotations

from dataclasses import dataclass

from search_space.rope.rescale_factors import RescaleFactors


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedRope:
    """Original RoPE up to `original_length` tokens, `long_factor` past it (LongRoPE2, arXiv 2502.20082, section 3.3).

    The attention factor stays on for short inputs: transformers applies the exported one on both sides.
    """

    original_length: int
    long_factor: RescaleFactors
    attention_factor: float

    def is_long(self, length: int) -> bool:
        """Whether a forward pass that ends at token number `length` uses the long factors."""
        return length > self.original_length

    def at(self, length: int) -> tuple[RescaleFactors, float]:
        """(factors, attention factor) of a forward pass over `length` tokens, prompt and generated ones together."""
        factors = self.long_factor if self.is_long(length) else RescaleFactors.identity(len(self.long_factor))
        return factors, self.attention_factor
