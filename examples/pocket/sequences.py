"""Training sequences: haystacks with needles and questions, copies, and plain text; a loss weight for every token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.documents.needle import NEEDLE, QUESTION

ANSWER_WEIGHT = 6.0
NEEDLE_TEXT_WEIGHT = 0.5
DIGITS = 7
_NEEDLE_SHARE = 0.6
_COPY_SHARE_EARLY, _COPY_SHARE = 0.35, 0.2
_EARLY = 0.3
"""The first 30 % of the steps show more copies: copying is the part of retrieval that is learnt first."""

Ids = NDArray[np.int64]
Weights = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyPieces:
    """A key's sentences up to the number, as token ids: the pieces that evaluation joins, so the boundaries agree."""

    needle: Ids
    question: Ids


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceMaker:
    """Draws training sequences; `text` is the tokenised text, `digits` the ids of 0-9, `closing` the needle's end."""

    text: NDArray[np.uint16]
    keys: tuple[KeyPieces, ...]
    digits: Ids
    closing: Ids
    vocabulary: int

    def batch(self, rng: np.random.Generator, *, count: int, length: int, progress: float) -> tuple[Ids, Weights]:
        """`count` sequences of `length` tokens and the weights of their tokens as targets; `progress` is in [0, 1]."""
        pairs = [self._draw(rng, length, progress) for _ in range(count)]
        return np.stack([ids for ids, _ in pairs]), np.stack([weights for _, weights in pairs])

    def _draw(self, rng: np.random.Generator, length: int, progress: float) -> tuple[Ids, Weights]:
        copies = _COPY_SHARE_EARLY if progress < _EARLY else _COPY_SHARE
        dice = rng.random()
        if dice < copies:
            return self._copies(rng, length)
        if dice < copies + _NEEDLE_SHARE * (1 - copies) / (1 - _COPY_SHARE):
            return self._needles(rng, length)
        return self._window(rng, length), np.ones(length, dtype=np.float32)

    def _window(self, rng: np.random.Generator, length: int) -> Ids:
        start = int(rng.integers(0, len(self.text) - length))
        return self.text[start : start + length].astype(np.int64)

    def _copies(self, rng: np.random.Generator, length: int) -> tuple[Ids, Weights]:
        """A segment, a gap, the segment again, a gap, ...: half of the segments are random tokens. Repeats weigh 1."""
        segment_length = int(rng.integers(6, max(7, length // 4)))
        random_tokens = rng.random() < 0.5
        segment = (
            rng.integers(1, self.vocabulary, segment_length) if random_tokens else self._window(rng, segment_length)
        )
        ids, weights = [segment], [np.zeros(segment_length)]
        while sum(map(len, ids)) < length:
            gap = self._window(rng, int(rng.integers(0, length // 2)))
            ids += [gap, segment]
            weights += [np.zeros(len(gap)), np.ones(segment_length)]
        return np.concatenate(ids)[:length], np.concatenate(weights)[:length].astype(np.float32)

    def _needles(self, rng: np.random.Generator, length: int) -> tuple[Ids, Weights]:
        """A window of text, needles at uniform depths in it, and questions about some of them at the very end."""
        needles, questions = _how_many(rng, length)
        chosen = [self.keys[i] for i in rng.choice(len(self.keys), needles, replace=False)]
        values = [self._value(rng) for _ in chosen]
        asked = rng.permutation(needles)[:questions]
        tail = [self._question(chosen[i].question, values[i]) for i in asked]
        inserts = [np.concatenate([key.needle, value, self.closing]) for key, value in zip(chosen, values, strict=True)]
        room = length - sum(map(len, inserts)) - sum(len(ids) for ids, _ in tail)
        if room < 0:
            return self._needles(rng, length)
        body = _insert(self._window(rng, room), inserts, rng)
        weights = [np.full(len(body), NEEDLE_TEXT_WEIGHT), *(weights for _, weights in tail)]
        return np.concatenate([body, *(ids for ids, _ in tail)]), np.concatenate(weights).astype(np.float32)

    def _value(self, rng: np.random.Generator) -> Ids:
        chosen = np.concatenate([rng.integers(1, 10, 1), rng.integers(0, 10, DIGITS - 1)])
        return np.take(self.digits, chosen)

    def _question(self, question: Ids, value: Ids) -> tuple[Ids, Weights]:
        weights = np.full(len(question) + DIGITS, NEEDLE_TEXT_WEIGHT, dtype=np.float32)
        weights[-DIGITS:] = ANSWER_WEIGHT
        return np.concatenate([question, value]), weights


def _how_many(rng: np.random.Generator, length: int) -> tuple[int, int]:
    """How many needles and questions: in half of the documents one of each, which is what evaluation shows."""
    most = max(1, length // 50)
    if rng.random() < 0.5:
        return 1, 1
    needles = int(rng.integers(1, most + 1))
    return needles, int(rng.integers(1, min(needles, max(1, length // 80)) + 1))


def _insert(window: Ids, inserts: Sequence[Ids], rng: np.random.Generator) -> Ids:
    cuts = np.sort(rng.integers(0, len(window) + 1, len(inserts)))
    pieces = np.split(window, cuts)
    return np.concatenate([pieces[0], *(part for pair in zip(inserts, pieces[1:], strict=True) for part in pair)])


def make_sequences(
    encode: Callable[[str], Sequence[int]], text: NDArray[np.uint16], keys: Sequence[str], vocabulary: int
) -> SequenceMaker:
    """Encodes the sentences of every key in `keys` once. `encode` adds no special tokens."""
    needle, closing = NEEDLE.split("{value}")
    question, _ = QUESTION.split("{value}")

    def ids(sentence: str) -> Ids:
        return np.asarray(encode(sentence), dtype=np.int64)

    return SequenceMaker(
        text=text,
        keys=tuple(KeyPieces(needle=ids(needle.format(key=k)), question=ids(question.format(key=k))) for k in keys),
        digits=np.concatenate([ids(str(digit)) for digit in range(10)]),
        closing=ids(closing),
        vocabulary=vocabulary,
    )
