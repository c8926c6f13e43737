"""A training text as token ids on disk: tokenised once, memory-mapped by every worker.

    tokens.npy      (tokens,) uint32, document after document
    ends.npy        (documents,) int64, where each document ends in `tokens`

The directory is named by what decides its content and appears whole or not at all. Workers that build the same one at
the same time do so in vain, but not in each other's way.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.documents.corpus import Corpus
from evaluation.errors import CorpusTooShort
from evaluation.models.tokenizer import Tokenizer
from finetune.text import content_sha256, training_documents

FORMAT = "ropewalk.tokens/1"
_PIECE_CHARACTERS = 4_000_000  # a longer document is tokenised in pieces, cut after a line


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenStore:
    """Documents as token ids. tokens: (tokens,) uint32; ends: (documents,) int64, increasing."""

    name: str
    """The corpus's, for messages."""
    sha256: str
    """Of what decides the content: the corpus's text, the tokenizer, and how they are stored."""
    tokens: NDArray[np.uint32]
    ends: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Tokens of each document, (documents,)."""
        return np.diff(self.ends, prepend=np.int64(0))

    def window(self, rng: np.random.Generator, length: int) -> NDArray[np.int64]:
        """`length` tokens in a row of one document, (length,), every such run as likely as any other.

        Raises:
            CorpusTooShort: no document has that many.
        """
        return self.run(rng, least=length, most=length)

    def run(self, rng: np.random.Generator, *, least: int, most: int) -> NDArray[np.int64]:
        """Tokens in a row of one document, from a place with at least `least` of them on to the document's end, `most`
        at most; every place is as likely as any other.

        Raises:
            CorpusTooShort: no document has that many.
        """
        starts = np.cumsum(np.maximum(self.sizes - least + 1, 0))  # runs that begin in this document or before it
        if not len(starts) or starts[-1] == 0:
            longest = int(self.sizes.max(initial=0))
            raise CorpusTooShort(
                f"the text to train on must have a document of at least {least} tokens, but the longest of corpus "
                f"{self.name!r} has {longest}"
            )
        drawn = int(rng.integers(0, starts[-1]))
        document = int(np.searchsorted(starts, drawn, side="right"))
        runs_left = int(starts[document]) - drawn
        start = int(self.ends[document]) - runs_left + 1 - least
        end = min(start + most, int(self.ends[document]))
        return self.tokens[start:end].astype(np.int64)


def open_token_store(tokenizer: Tokenizer, corpus: Corpus, source: str | None, directory: Path | None) -> TokenStore:
    """The tokens of `training_documents`, from the cache in `directory` or put there; without one, for this run only.

    Raises OSError when the disk does not take it.
    """
    identity = f"{FORMAT}\n{content_sha256(corpus, source)}\n{tokenizer.fingerprint}"
    sha256 = hashlib.sha256(identity.encode()).hexdigest()
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="ropewalk-tokens-") as scratch:
            _write(Path(scratch), tokenizer, corpus, source)
            return _read(Path(scratch), corpus.name, sha256)  # what is mapped outlives its name
    cached = directory / sha256
    if not cached.is_dir():
        _build(cached, tokenizer, corpus, source)
    return _read(cached, corpus.name, sha256)


def _build(cached: Path, tokenizer: Tokenizer, corpus: Corpus, source: str | None) -> None:
    cached.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{cached.name[:8]}.", dir=cached.parent))
    try:
        _write(scratch, tokenizer, corpus, source)
        try:
            scratch.rename(cached)
        except OSError:
            if not cached.is_dir():  # else another worker was faster
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(directory: Path, tokenizer: Tokenizer, corpus: Corpus, source: str | None) -> None:
    ends: list[int] = []
    total = 0
    with (directory / "tokens.npy").open("wb") as file:
        _write_header(file, 0)
        for text in training_documents(corpus, source):
            for piece in _pieces(text):
                ids = np.asarray(tokenizer.encode(piece), dtype=np.uint32)
                file.write(ids.tobytes())
                total += len(ids)
            ends.append(total)
        file.seek(0)
        _write_header(file, total)
        file.flush()
        os.fsync(file.fileno())
    np.save(directory / "ends.npy", np.asarray(ends, dtype=np.int64), allow_pickle=False)


def _write_header(file: object, tokens: int) -> None:
    # numpy pads the header so that the length of the first axis can be written over when it has grown.
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint32)), "fortran_order": False, "shape": (tokens,)}
    np.lib.format.write_array_header_1_0(file, header)  # type: ignore[arg-type]


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        cut = text.rfind("\n", start, start + _PIECE_CHARACTERS) + 1
        end = cut if cut > start else start + _PIECE_CHARACTERS
        yield text[start:end]
        start = end
    yield text[start:]


def _read(directory: Path, name: str, sha256: str) -> TokenStore:
    ends = np.load(directory / "ends.npy", allow_pickle=False)
    tokens_file = directory / "tokens.npy"
    if not len(ends) or ends[-1] == 0:  # nothing cannot be mapped
        return TokenStore(name=name, sha256=sha256, tokens=np.zeros(0, dtype=np.uint32), ends=ends)
    tokens = np.load(tokens_file, mmap_mode="r", allow_pickle=False)
    return TokenStore(name=name, sha256=sha256, tokens=tokens, ends=ends)
