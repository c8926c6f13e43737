"""RULER's two counting tasks: which words come most often."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import InvalidDocumentRequest
from evaluation.ruler.fitting import TokenCount
from evaluation.ruler.task import Definition, Draft
from evaluation.ruler.values import all_words, draw_distinct, draw_word

COMMON_TEMPLATE = (
    "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that "
    "appear most often.\n{context}\nQuestion: What are the 10 most common words in the above list? Answer: The top 10 "
    "words that appear most often in the list are:"
)
COMMON_TOKENS_TO_GENERATE = 120
COMMON_WORDS = 10
SHORT_LENGTH = 4096  # below, lists with fewer repetitions

FREQUENT_TEMPLATE = (
    "Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared "
    "coded words. {context}\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the "
    "three most frequently appeared words in the above coded text? Answer: According to the coded text above, the "
    "three most frequently appeared words are:"
)
FREQUENT_TOKENS_TO_GENERATE = 50
CODED_LETTERS = 6
ALPHA = 2.0
ZETA_OF_ALPHA = np.pi**2 / 6
TOKENS_PER_CODED_WORD = 50
NOISE_WORD = "..."
ASKED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class _Form:
    """How often (a common word, any other) comes in the list and in the example, and how many words the example has."""

    times: tuple[int, int]
    example_times: tuple[int, int]
    example_words: int


LONG_FORM = _Form(times=(30, 3), example_times=(10, 3), example_words=40)
SHORT_FORM = _Form(times=(6, 1), example_times=(3, 1), example_words=20)


def common_words(tokens_of: TokenCount) -> Definition:
    """cwe: a numbered list of words in random order, 10 of them 30 times and the others 3 times; asked are the 10.

    More words make it longer. A solved example of 40 words (10 and 3 times) stands before it; below 4096 tokens the
    repetitions are 6 and 1, and the example has 20 words (3 times and once). 120 tokens are generated. Words are the
    nouns, adjectives and verbs of wonderwords.

    Deviations: a list that needs more words than there are goes on with pairs "adjective-noun"; RULER takes another
    list of English words there. The form for short lengths is also taken where the other does not fit, as with a small
    vocabulary. `tokens_of` counts the tokens of a text.
    """

    def draft(rng: np.random.Generator, index: int, length: int) -> Draft:
        pool = list(all_words())
        rng.shuffle(pool)
        seed = int(rng.integers(2**32))
        if length >= SHORT_LENGTH:
            long = _draft(pool, seed, LONG_FORM)
            if tokens_of(long.write(long.least)) <= length - COMMON_TOKENS_TO_GENERATE:
                return long
        return _draft(pool, seed, SHORT_FORM)

    return Definition(draft=draft, tokens_to_generate=COMMON_TOKENS_TO_GENERATE)


def _draft(pool: list[str], seed: int, form: _Form) -> Draft:
    example_order, list_order, more_words = np.random.SeedSequence(seed).spawn(3)
    example = pool[: form.example_words]
    words = _Words(pool[form.example_words :], np.random.default_rng(more_words))
    solved = _common_text(example, form.example_times, example_order) + _numbered(example[:COMMON_WORDS]) + "\n"

    def write(amount: int) -> str:
        return solved + _common_text(words.first(amount), form.times, list_order)

    # One word that is not common makes the question one.
    return Draft(answers=tuple(words.first(COMMON_WORDS)), write=write, least=COMMON_WORDS + 1)


def _common_text(words: Sequence[str], times: tuple[int, int], order: np.random.SeedSequence) -> str:
    entries = [*words[:COMMON_WORDS]] * times[0] + [*words[COMMON_WORDS:]] * times[1]
    np.random.default_rng(order).shuffle(entries)
    return COMMON_TEMPLATE.format(context=_numbered(entries))


def _numbered(words: Sequence[str]) -> str:
    return " ".join(f"{number}. {word}" for number, word in enumerate(words, 1))


class _Words:
    """Different words without end; the first n are the same whatever n is."""

    def __init__(self, pool: list[str], rng: np.random.Generator) -> None:
        self._words = dict.fromkeys(pool)
        self._rng = rng

    def first(self, count: int) -> list[str]:
        """`count` words."""
        while len(self._words) < count:
            self._words[draw_word(self._rng)] = None
        return list(self._words)[:count]


def frequent_words() -> Definition:
    """fwe: coded words (six random letters) with the frequencies of a Zeta distribution, alpha = 2; asked: the top 3.

    Of n words in all, the one of rank k comes int(n * k^-2 / zeta(2)) times, in random order. Rank 1 is noise, "...";
    ranks 2 to 4 are asked for. The vocabulary has length / 50 words, 50 tokens are generated. The text grows with n.

    Deviation: n is at least 74, from where on rank 4 always comes more often than rank 5.
    """

    def draft(rng: np.random.Generator, index: int, length: int) -> Draft:
        size = length // TOKENS_PER_CODED_WORD
        if size <= ASKED + 1:
            raise InvalidDocumentRequest(
                f"length must be at least {TOKENS_PER_CODED_WORD * (ASKED + 2)} tokens for RULER's fwe, "
                f"but got length={length}"
            )
        letters = list(string.ascii_lowercase)
        coded = draw_distinct(lambda stream: "".join(stream.choice(letters, CODED_LETTERS)), rng, size - 1)
        vocabulary = (NOISE_WORD, *coded)
        order = int(rng.integers(2**32))

        def write(amount: int) -> str:
            entries = [
                word for word, times in zip(vocabulary, zeta_counts(amount, size), strict=True) for _ in range(times)
            ]
            np.random.default_rng(order).shuffle(entries)
            return FREQUENT_TEMPLATE.format(context=" ".join(entries))

        return Draft(answers=vocabulary[1 : ASKED + 1], write=write, least=74)

    return Definition(draft=draft, tokens_to_generate=FREQUENT_TOKENS_TO_GENERATE)


def zeta_counts(total: int, size: int) -> NDArray[np.int64]:
    """How often each rank comes, (size,), of `total` words: int(total * k^-alpha / zeta(alpha)), k from 1 on."""
    counts: NDArray[np.int64] = (total * np.arange(1, size + 1, dtype=np.float64) ** -ALPHA / ZETA_OF_ALPHA).astype(
        np.int64
    )
    return counts
