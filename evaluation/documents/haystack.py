"""A split's text as tokens, and where it can be cut and opened without breaking a line or a word."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evaluation.models.tokenizer import Tokenizer

_CANDIDATE_CUTS = 16


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Haystack:
    """The tokens of one text, and the positions p (before token p) at which a line or a word begins.

    ids: (tokens,); line_starts, word_starts: (tokens + 1,), true also at both ends; every line start is a word start.
    """

    ids: NDArray[np.int64]
    line_starts: NDArray[np.bool_] = field(repr=False)
    word_starts: NDArray[np.bool_] = field(repr=False)

    @classmethod
    def of(cls, tokenizer: Tokenizer, text: str) -> Haystack:
        """Tokenise the whole text at once, so that no token in it depends on where a document is cut."""
        ids = np.asarray(tokenizer.encode(text), dtype=np.int64)
        vocabulary, inverse = np.unique(ids, return_inverse=True)
        pieces = [tokenizer.decode([token]) for token in vocabulary.tolist()]
        ends_line = np.array([piece.endswith("\n") for piece in pieces], dtype=np.bool_)[inverse]
        ends_word = np.array([piece[-1:].isspace() for piece in pieces], dtype=np.bool_)[inverse]
        opens_word = np.array([piece[:1].isspace() for piece in pieces], dtype=np.bool_)[inverse]
        inner_words = ends_word[:-1] | opens_word[1:]
        return cls(ids=ids, line_starts=_with_ends(ends_line[:-1], ids), word_starts=_with_ends(inner_words, ids))

    def __len__(self) -> int:
        return len(self.ids)

    def cuts(self, *, length: int, where: float) -> tuple[int, ...]:
        """Starts of runs of `length` tokens near the fraction `where` of the text, the better ones first.

        They begin with a line (in a text without lines with a word, without words anywhere); those that end with a
        word come first.
        Deterministic, never empty; needs 1 <= length <= len(self) and 0 <= where < 1.
        """
        last = len(self) - length
        drawn = int(where * (last + 1))
        starts = self._starts(last, length)
        nearest = np.roll(starts, -int(np.searchsorted(starts, drawn)))[:_CANDIDATE_CUTS]
        broken = ~self.word_starts[nearest + length]
        return tuple(nearest[np.argsort(broken, kind="stable")].tolist())

    def _starts(self, last: int, length: int) -> NDArray[np.int64]:
        """Where a run of `length` tokens may begin, at most at `last`."""
        for boundaries in (self.line_starts, self.word_starts):
            starts = np.flatnonzero(boundaries[: last + 1])
            if len(starts) > last // length:  # with fewer starts than runs that fit, documents would begin alike
                return starts
        return np.arange(last + 1)

    def opening(self, *, start: int, length: int, position: int, reach: int) -> int:
        """Where to insert a needle into the run of `length` tokens at `start`, counted from `start`.

        The line start nearest to `position` and at most `reach` tokens away; else a word start; else `position`.
        """
        low, high = max(position - reach, 0), min(position + reach, length)
        for boundaries in (self.line_starts, self.word_starts):
            near = np.flatnonzero(boundaries[start + low : start + high + 1]) + low
            if len(near):
                return int(near[np.argmin(np.abs(near - position))])
        return position


def _with_ends(inner: NDArray[np.bool_], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Boundaries between tokens (tokens - 1,) with both ends of the text added (tokens + 1,)."""
    return np.concatenate([[True], inner, [True]]) if len(ids) else np.ones(1, dtype=np.bool_)
