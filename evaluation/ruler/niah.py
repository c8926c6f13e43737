"""RULER's eight needles in a haystack.

A needle says "One of the special magic {kind} for {key} is: {value}."; the question asks for the values of some keys.

| task | haystack | keys | values per key | keys asked for | key | value |
|---|---|---|---|---|---|---|
| niah_single_1 | one line of noise, repeated | 1 | 1 | 1 | word | 7 digits |
| niah_single_2 | text | 1 | 1 | 1 | word | 7 digits |
| niah_single_3 | text | 1 | 1 | 1 | word | UUID |
| niah_multikey_1 | text | 4 | 1 | 1 | word | 7 digits |
| niah_multikey_2 | other needles | 1 | 1 | 1 | word | 7 digits |
| niah_multikey_3 | other needles | 1 | 1 | 1 | UUID | UUID |
| niah_multivalue | text | 1 | 4 | 1 | word | 7 digits |
| niah_multiquery | text | 4 | 1 | 4 | word | 7 digits |

128 tokens are generated. Needles stand between lines, or between sentences of a text at some of RULER's 40 depths.

Deviations: the text is a corpus (by default the Python reference, its validation split) instead of Paul Graham's
essays: give these as the corpus to have RULER's. Sentences end at a full stop, question or exclamation mark before a
blank, for RULER's splitter is a trained one that must be downloaded. No key comes twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.ruler.task import Definition, Draft
from evaluation.ruler.values import DRAWS, Kind, draw_distinct

TOKENS_TO_GENERATE = 128
NEEDLE = "One of the special magic {kind} for {key} is: {value}."
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
SINGLE = (
    "A special magic {kind} is hidden within the following text. Make sure to memorize it. I will quiz you about the "
    "{kind} afterwards.\n{context}\nWhat is the special magic {kind} for {query} mentioned in the provided text? "
    "The special magic {kind} for {query} mentioned in the provided text is"
)
SEVERAL = (
    "Some special magic {kind} are hidden within the following text. Make sure to memorize it. I will quiz you about "
    "the {kind} afterwards.\n{context}\nWhat are all the special magic {kind} for {query} mentioned in the provided "
    "text? The special magic {kind} for {query} mentioned in the provided text are"
)
DEPTHS = np.round(np.linspace(0, 100, 40)) / 100
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

Place = Callable[[int], str]
"""amount of haystack -> the haystack with its needles in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Niah:
    """The parameters of one of the tasks."""

    haystack: Literal["noise", "text", "needles"]
    keys: int = 1
    values: int = 1
    queries: int = 1
    key_kind: Kind = "words"
    value_kind: Kind = "numbers"


def niah(task: Niah, words: tuple[str, ...]) -> Definition:
    """The task with `words`, the blank-separated words of a text, as its haystack where it has a text."""

    def draft(rng: np.random.Generator, index: int, length: int) -> Draft:
        return _draft(task, words, rng)

    return Definition(draft=draft, tokens_to_generate=TOKENS_TO_GENERATE)


def _draft(task: Niah, words: tuple[str, ...], rng: np.random.Generator) -> Draft:
    keys = draw_distinct(DRAWS[task.key_kind], rng, task.keys)
    values = {key: draw_distinct(DRAWS[task.value_kind], rng, task.values) for key in keys}
    needles = [_needle(task, key, value) for key in keys for value in values[key]]
    rng.shuffle(needles)
    asked = [keys[place] for place in rng.choice(task.keys, task.queries, replace=False)]
    answers = tuple(value for key in asked for value in values[key])
    template = SINGLE if len(answers) == 1 else SEVERAL
    kind = task.value_kind.removesuffix("s") if len(answers) == 1 else task.value_kind
    place = _place(task, needles, frozenset(keys), words, rng)

    def write(amount: int) -> str:
        return template.format(kind=kind, context=place(amount), query=_in_words(asked))

    return Draft(answers=answers, write=write, least=len(needles))


def _needle(task: Niah, key: str, value: str) -> str:
    return NEEDLE.format(kind=task.value_kind, key=key, value=value)


def _in_words(asked: list[str]) -> str:
    return asked[0] if len(asked) == 1 else f"{', '.join(asked[:-1])}, and {asked[-1]}"


def _place(
    task: Niah, needles: list[str], keys: frozenset[str], words: tuple[str, ...], rng: np.random.Generator
) -> Place:
    if task.haystack == "text":
        return _in_text(needles, words, rng)
    where = np.sort(rng.random(len(needles)))
    others = _Others(task, keys, rng)

    def place(amount: int) -> str:
        lines = [NOISE] * amount if task.haystack == "noise" else others.first(amount)
        return "\n".join(_inserted(lines, needles, (where * amount).astype(int).tolist()))

    return place


def _in_text(needles: list[str], words: tuple[str, ...], rng: np.random.Generator) -> Place:
    depths = np.sort(rng.choice(DEPTHS, len(needles), replace=False))

    def place(amount: int) -> str:
        repeats = -(-amount // len(words))  # a short text is repeated, as RULER does
        sentences = _SENTENCE_END.split(" ".join((words * repeats)[:amount]))
        return " ".join(_inserted(sentences, needles, (depths * len(sentences)).astype(int).tolist()))

    return place


def _inserted(lines: list[str], needles: list[str], positions: list[int]) -> list[str]:
    """`lines` with needle j before line `positions[j]`; positions ascend."""
    result = list(lines)
    for position, needle in reversed(list(zip(positions, needles, strict=True))):
        result.insert(position, needle)
    return result


class _Others:
    """Needles that nobody asks for; the first n are the same whatever n is."""

    def __init__(self, task: Niah, asked: frozenset[str], rng: np.random.Generator) -> None:
        self._task = task
        self._rng = rng.spawn(1)[0]
        self._keys = set(asked)
        self._needles: list[str] = []

    def first(self, count: int) -> list[str]:
        """`count` needles, each with a key of its own."""
        while len(self._needles) < count:
            key = DRAWS[self._task.key_kind](self._rng)
            if key not in self._keys:
                self._keys.add(key)
                self._needles.append(_needle(self._task, key, DRAWS[self._task.value_kind](self._rng)))
        return self._needles[:count]
