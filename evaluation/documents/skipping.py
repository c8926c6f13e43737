"""Position-skipped documents: few tokens whose positions jump forward, so that the last one stands at L' - 1.

A model sees the distances of a long text and pays for a short one: n / L' of the tokens and its square of the
attention. Known as a way to train (PoSE, arXiv 2309.10400); here candidates are ranked by it. Fewer keys compete for
attention than in a full document, so a score ranks and does not measure: validation is on full documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import InvalidDocumentRequest

GapPlaces = Literal["haystack", "anywhere", "tail"]
MOST_GAPS = 16

Jump = tuple[int, int]
"""(token, positions): how many positions are left out right before a token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipping:
    """How documents skip: `tokens` each, and `gaps` jumps among them.

    They are in the haystack alone, anywhere, or "tail": one before the questions, so that the head stands at the first
    positions and a short tail at the last ones, as in EndPrompt (arXiv 2605.14589).
    """

    tokens: int
    gaps: int = 2
    places: GapPlaces = "haystack"

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise InvalidDocumentRequest(f"skipped documents must have tokens, but got tokens={self.tokens}")
        if not 1 <= self.gaps <= MOST_GAPS:
            raise InvalidDocumentRequest(f"gaps must be from 1 to {MOST_GAPS}, but got gaps={self.gaps}")
        if self.places not in get_args(GapPlaces):
            raise InvalidDocumentRequest(
                f"places of gaps must be one of {', '.join(get_args(GapPlaces))}, but got {self.places!r}"
            )

        if self.places == "tail" and self.gaps != 1:
            raise InvalidDocumentRequest(f"gaps must be 1 with places='tail', but got gaps={self.gaps}")

    def __str__(self) -> str:
        return f"skip{self.tokens}x{self.gaps}{self.places[0]}"

    def check_fits(self, target_length: int) -> None:
        """Raise InvalidDocumentRequest unless every gap leaves out a position of `target_length`."""
        if self.tokens + self.gaps > target_length:
            raise InvalidDocumentRequest(
                "skipped documents must leave a position to each gap, but got "
                f"tokens={self.tokens}, gaps={self.gaps}, target_length={target_length}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """The tokens of a document, and what stands where.

    depths: of each needle in haystack tokens, 0 to 1; statements: [start, end) of each needle; questions: where the
    questions begin, or what stands in their place as the tail. Needles are in the order asked; plain text has none.
    """

    tokens: tuple[int, ...]
    depths: tuple[float, ...]
    statements: tuple[tuple[int, int], ...]
    questions: int

    def jumps(self, skipping: Skipping | None, target_length: int, rng: np.random.Generator) -> tuple[Jump, ...]:
        """Different tokens, drawn, and sizes that reach `target_length`, each at least 1; ascending by token.

        Sizes follow a flat Dirichlet distribution, rounded.

        Raises:
            InvalidDocumentRequest: fewer places are allowed than there are gaps.
        """
        if skipping is None:
            return ()
        places = self._places(skipping.places)
        if len(places) < skipping.gaps:
            raise InvalidDocumentRequest(
                f"gaps must fit between the tokens of the haystack, {len(places)}, but got gaps={skipping.gaps}"
            )
        tokens = np.sort(rng.choice(places, size=skipping.gaps, replace=False))
        missing = target_length - len(self.tokens) - skipping.gaps
        ends = np.round(np.cumsum(rng.dirichlet(np.ones(skipping.gaps))) * missing).astype(np.int64)
        sizes = np.diff(ends, prepend=0) + 1
        return tuple((int(token), int(size)) for token, size in zip(tokens, sizes, strict=True))

    def _places(self, kind: GapPlaces) -> NDArray[np.int64]:
        """Tokens that positions may be left out before."""
        if kind == "tail":
            return np.asarray([self.questions])
        allowed = np.ones(len(self.tokens), dtype=np.bool_)
        allowed[0] = False  # nothing stands before it
        if kind == "haystack":
            for start, end in self.statements:
                allowed[start + 1 : end] = False
            allowed[self.questions + 1 :] = False
        return np.flatnonzero(allowed)

    def depths_over(self, jumps: tuple[Jump, ...]) -> tuple[float, ...]:
        """Of each needle in positions, where there are jumps: its start over that of the questions."""
        if not jumps:
            return self.depths
        positions = positions_of(len(self.tokens), jumps)
        return tuple(float(positions[start] / positions[self.questions]) for start, _ in self.statements)


def positions_of(length: int, jumps: tuple[Jump, ...]) -> NDArray[np.int64]:
    """The position of each of `length` tokens, (length,), rising."""
    steps = np.ones(length, dtype=np.int64)
    steps[0] = 0
    for token, size in jumps:
        steps[token] += size
    result: NDArray[np.int64] = np.cumsum(steps)
    return result


def check_jumps(length: int, jumps: tuple[Jump, ...]) -> None:
    """Raise InvalidDocumentRequest unless jumps are forward, in order, and before tokens that have one before them."""
    tokens = [token for token, _ in jumps]
    in_order = all(left < right for left, right in pairwise(tokens))
    if not in_order or any(not 1 <= token < length or size < 1 for token, size in jumps):
        raise InvalidDocumentRequest(
            f"jumps must be forward, in order and before tokens from 1 to {length - 1}, but got {jumps}"
        )
