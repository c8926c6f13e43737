"""The words and values that RULER's needles are made of."""

from __future__ import annotations

import functools
import importlib.resources
import uuid
from collections.abc import Callable
from typing import Literal

import numpy as np

Kind = Literal["words", "numbers", "uuids"]


def draw_word(rng: np.random.Generator) -> str:
    """An adjective and a noun of wonderwords with a hyphen between: one of about six million."""
    adjectives, nouns = words_of("adjective"), words_of("noun")
    return f"{adjectives[rng.integers(len(adjectives))]}-{nouns[rng.integers(len(nouns))]}"


def draw_number(rng: np.random.Generator) -> str:
    """Seven digits, the first of them not 0."""
    return str(rng.integers(10**6, 10**7))


def draw_uuid(rng: np.random.Generator) -> str:
    """A random UUID, version 4."""
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))


DRAWS: dict[Kind, Callable[[np.random.Generator], str]] = {
    "words": draw_word,
    "numbers": draw_number,
    "uuids": draw_uuid,
}


def draw_distinct(draw: Callable[[np.random.Generator], str], rng: np.random.Generator, count: int) -> tuple[str, ...]:
    """`count` different values; RULER does not look whether one comes twice."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[draw(rng)] = None
    return tuple(found)


@functools.cache
def words_of(part: Literal["noun", "adjective", "verb"]) -> tuple[str, ...]:
    """The list of wonderwords for a part of speech, sorted. Unlike RULER's, without the package's profanities."""
    lists = importlib.resources.files("wonderwords.assets")
    words, profane = (
        {line.strip() for line in lists.joinpath(f"{name}list.txt").read_text(encoding="utf-8").split("\n")}
        for name in (part, "profanity")
    )
    return tuple(sorted(words - profane - {""}))


@functools.cache
def all_words() -> tuple[str, ...]:
    """Nouns, adjectives and verbs, sorted: what common words are drawn from."""
    return tuple(sorted({*words_of("noun"), *words_of("adjective"), *words_of("verb")}))
