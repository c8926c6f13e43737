"""What passes over search documents cost: each its document's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search_space.errors import InvalidStrategy

GRADIENT_COST = 3
"""Forward passes that a pass with gradients counts as: one forward, two for the way back. Measured on a CPU at 2048 and
4096 tokens: 3.1 and 3.2; more where memory makes a scorer run layers twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PassCost:
    """Tokens that a pass over a search document reads, by the document's index.

    Raises:
        InvalidStrategy: a document without tokens.
    """

    each: int
    """L' of full documents, fewer of skipped ones."""
    longer: int = 0
    """The first so many documents are full ones before skipped ones."""
    longer_each: int = 1
    """Tokens of each of those."""

    def __post_init__(self) -> None:
        for name, tokens in (("each", self.each), ("longer_each", self.longer_each)):
            if tokens < 1:
                raise InvalidStrategy(f"a document must have tokens, but got {name}={tokens}")

    def of(self, documents: Sequence[int], *, gradients: bool = False) -> int:
        """A pass over each of `documents`; with gradients it costs as much as ``GRADIENT_COST`` of them."""
        longer = sum(index < self.longer for index in documents) if self.longer else 0
        tokens = (len(documents) - longer) * self.each + longer * self.longer_each
        return tokens * (GRADIENT_COST if gradients else 1)

    def extremes(self, documents: int) -> tuple[int, int]:
        """(the least, the most) that a pass over one of the first `documents` costs."""
        kinds = [self.longer_each] * bool(self.longer) + [self.each] * (documents > self.longer)
        return min(kinds), max(kinds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What was paid, or will be: forward passes and their tokens."""

    passes: int
    tokens: int

    def __add__(self, other: Spent) -> Spent:
        return Spent(passes=self.passes + other.passes, tokens=self.tokens + other.tokens)


NOTHING = Spent(passes=0, tokens=0)

PASSES = PassCost(each=1)
"""Counts passes, whatever their documents."""
