"""The text to train on: a corpus's train split, and everything past the part of it that haystacks are cut from.

A search and its validation use the first `MAX_CHARACTERS` of a corpus. Of these only the train split is trained on;
what comes after them is trained on too, without the lines that the other two splits hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evaluation.documents.corpus import BETWEEN, MAX_CHARACTERS, Corpus, corpus_path, iter_documents
from evaluation.documents.needle import Split
from evaluation.documents.splitting import WINDOW, window_hashes

_HASH_BYTES = 1 << 20
_HELD_OUT: tuple[Split, ...] = ("search", "validation")


def training_documents(corpus: Corpus, source: str | None) -> Iterator[str]:
    """The train split of `corpus` as one document, then each later document of `source`, which `corpus` began with."""
    yield corpus.split_text("train")
    if len(corpus.text) < MAX_CHARACTERS:
        return
    taken = np.sort(np.concatenate([window_hashes(corpus.split_text(split)) for split in _HELD_OUT]))
    for text in later_documents(source):
        if kept := _without_shared_lines(text, taken):
            yield kept


def later_documents(source: str | None) -> Iterator[str]:
    """The documents past the first MAX_CHARACTERS of a corpus; the one across that border from there on."""
    seen = 0
    for text in iter_documents(source):
        rest = text[max(0, MAX_CHARACTERS - seen) :]
        seen += len(text) + len(BETWEEN)
        if rest:
            yield rest


def _without_shared_lines(text: str, taken: NDArray[np.uint64]) -> str:
    """Drop every line that touches a window of WINDOW characters whose hash is in `taken`, sorted."""
    hashes = window_hashes(text)
    near = np.searchsorted(taken, hashes).clip(max=len(taken) - 1)
    shared = np.flatnonzero(taken[near] == hashes)
    if not len(shared):
        return text
    lines = text.splitlines(keepends=True)
    ends = np.cumsum([len(line) for line in lines])
    first = np.searchsorted(ends, shared, side="right")
    last = np.searchsorted(ends, shared + WINDOW - 1, side="right")
    dropped = {line for low, high in zip(first.tolist(), last.tolist(), strict=True) for line in range(low, high + 1)}
    return "".join(line for number, line in enumerate(lines) if number not in dropped)


def content_sha256(corpus: Corpus, source: str | None) -> str:
    """sha256 of everything that `training_documents` reads: of the text when it is whole, else of the files."""
    path = corpus_path(source)
    if path is None or len(corpus.text) < MAX_CHARACTERS:
        return corpus.sha256
    digest = hashlib.sha256(str(source).rpartition("#")[2].encode())  # another column is another text
    for file in [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.name}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(_HASH_BYTES):
                digest.update(block)
    return digest.hexdigest()
