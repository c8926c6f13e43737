"""The words that needles are about: one English noun each, and no noun in two splits."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import re

from evaluation.documents.needle import Split, check_split

_PLAIN_NOUN = re.compile(r"[a-z]{3,9}")


@functools.cache
def keys_of(split: Split) -> tuple[str, ...]:
    """The key words of `split`, sorted: single lowercase words of 3-9 letters from RULER's noun list (wonderwords)."""
    check_split(split)
    return tuple(word for word in _nouns() if split_of_key(word) == split)


def split_of_key(word: str) -> Split:
    """Where a word belongs, by its own hash: 50 % train, 25 % search, 25 % validation, whatever the other words are."""
    bucket = hashlib.sha256(word.encode()).digest()[0]
    if bucket < 128:
        return "train"
    return "search" if bucket < 192 else "validation"


@functools.cache
def _nouns() -> tuple[str, ...]:
    lists = importlib.resources.files("wonderwords.assets")
    nouns = lists.joinpath("nounlist.txt").read_text(encoding="utf-8").split("\n")
    profane = set(lists.joinpath("profanitylist.txt").read_text(encoding="utf-8").split("\n"))
    return tuple(sorted({word for word in nouns if _PLAIN_NOUN.fullmatch(word)} - profane))
