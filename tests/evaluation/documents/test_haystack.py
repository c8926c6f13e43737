"""Where a text is cut and opened."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.documents.corpus import Corpus
from evaluation.documents.haystack import Haystack
from evaluation.models.tokenizer import HFTokenizer


def haystack(*, tokens: int, lines: set[int], words: set[int]) -> Haystack:
    ends = {0, tokens}
    positions = range(tokens + 1)
    return Haystack(
        ids=np.arange(tokens),
        line_starts=np.array([at in lines | ends for at in positions]),
        word_starts=np.array([at in lines | words | ends for at in positions]),
    )


def test_boundaries_are_those_of_the_text(tokenizer: HFTokenizer, pydoc: Corpus) -> None:
    text = pydoc.split_text("train")[:3000]
    found = Haystack.of(tokenizer, text)
    offsets = np.cumsum([0, *(len(tokenizer.decode([token])) for token in found.ids.tolist())])
    assert offsets[-1] == len(text)
    for at in range(1, len(found)):
        before, after = text[offsets[at] - 1], text[offsets[at]]
        assert found.line_starts[at] == (before == "\n")
        assert found.word_starts[at] == (before.isspace() or after.isspace())


def test_an_empty_text_has_no_tokens(tokenizer: HFTokenizer) -> None:
    assert len(Haystack.of(tokenizer, "")) == 0


@pytest.mark.parametrize(
    ("position", "reach", "opened"),
    [(20, 8, 23), (20, 3, 23), (20, 2, 19), (20, 0, 20), (11, 8, 10), (0, 8, 0), (40, 2, 40), (33, 2, 33)],
    ids=["nearest line", "edge of reach", "word", "neither", "line before", "start", "end", "far from all"],
)
def test_a_needle_goes_to_the_nearest_line_else_word_else_there(position: int, reach: int, opened: int) -> None:
    hay = haystack(tokens=100, lines={60, 63, 73}, words={69, 74})
    assert hay.opening(start=50, length=40, position=position, reach=reach) == opened


def test_cuts_are_near_and_whole_ones_come_first() -> None:
    hay = haystack(tokens=200, lines=set(range(0, 200, 10)), words={135, 145})
    cuts = hay.cuts(length=35, where=0.55)
    assert len(cuts) == 16
    assert cuts[:2] == (100, 110)  # they end at the words 135 and 145
    assert cuts[2:4] == (120, 130)  # then the nearest of the others, which end within a word
    assert all(at + 35 <= 200 and at % 10 == 0 for at in cuts)


def test_a_text_with_few_lines_is_cut_at_words_and_one_without_words_anywhere() -> None:
    assert haystack(tokens=100, lines=set(), words=set(range(0, 100, 7))).cuts(length=20, where=0.4)[0] % 7 == 0
    assert haystack(tokens=100, lines=set(), words=set()).cuts(length=20, where=0.4)[0] == 32


def test_a_text_of_one_haystack_has_one_cut() -> None:
    assert haystack(tokens=30, lines={10, 20}, words=set()).cuts(length=30, where=0.99) == (0,)
