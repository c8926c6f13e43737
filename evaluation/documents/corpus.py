"""Where haystacks come from, and how a text is divided so that no two splits share any of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.documents.dividing import QUICK_CHARACTERS, divide
from evaluation.documents.needle import Split, check_split
from evaluation.documents.sources import (
    BUILTIN,
    DEFAULT_COLUMN,
    STDLIB,
    read_dataset,
    read_jsonl,
    read_parquet,
    read_pydoc,
    read_stdlib,
    read_text,
)
from evaluation.errors import CorpusNotFound, InvalidCorpus
from evaluation.models.user_path import exists, is_directory, is_file, user_path

# Room for several 128k-token haystacks in each split; bounds the time and the memory that a corpus of any size takes.
MAX_CHARACTERS = 8_000_000
_PYDOC_TOKENS = 8192  # its splits have about 35,000 tokens of a large vocabulary
_LITTLE = 0.05  # of a corpus, where 0.2 to 0.4 are a split's share
BETWEEN = "\n\n"  # two documents

_Reader = Callable[[Path, str | None], Iterator[str]]
_FILES: dict[str, _Reader] = {
    ".txt": read_text,
    ".md": read_text,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A text and its name. sha256 is of the text, so it tells whether two corpora of one name are the same."""

    name: str
    text: str = field(repr=False)

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise InvalidCorpus(f"a corpus must hold some text, but {self.name!r} is empty")

    @property
    def sha256(self) -> str:
        """Hexadecimal sha256 of the text in UTF-8."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def split_text(self, split: Split) -> str:
        """The text of one split: train 20 %, search 40 %, validation 40 % of the corpus, in contiguous blocks.

        No 40 characters in a row are in two splits: text that the corpus repeats is kept by one split only, so the
        shares are approximate. Empty when the corpus is too short to be divided.
        """
        check_split(split)
        return divide(self.text)[split]

    def remedy(self, split: Split) -> str:
        """What to do where the text of `split` is too short for what is asked of it, as a clause."""
        if len(self.split_text(split)) < _LITTLE * len(self.text):
            return ": it repeats itself, and what several splits would hold stays in one of them: give another corpus"
        if len(self.text) >= MAX_CHARACTERS:
            return f" in its first {MAX_CHARACTERS:,} characters, and no more are used: ask for a shorter length"
        return f": give a longer corpus{'' if self.name == STDLIB else f', such as {STDLIB}'}"

    @property
    def is_short(self) -> bool:
        """Whether it is divided and tokenised in about a second."""
        return len(self.text) <= QUICK_CHARACTERS


def load_corpus(source: str | None) -> Corpus:
    """Read a corpus, its documents apart by an empty line, up to MAX_CHARACTERS; `source` as of `iter_documents`.

    Raises CorpusNotFound for a missing file or column, InvalidCorpus for one that cannot be read as text, or that is
    neither a regular file nor a directory.
    """
    texts: list[str] = []
    characters = 0
    for text in iter_documents(source, most=MAX_CHARACTERS):
        texts.append(text)
        characters += len(text) + len(BETWEEN)
        if characters >= MAX_CHARACTERS + len(BETWEEN):
            break
    name = BUILTIN if source is None else source
    return Corpus(name=name, text=BETWEEN.join(texts)[:MAX_CHARACTERS])


def iter_documents(source: str | None, *, most: int | None = None) -> Iterator[str]:
    """The texts of a corpus of any size, one after the other: None or "builtin:pydoc" (the Python reference),
    "builtin:stdlib" (the sources of Python's standard library, where 8 million characters are enough), a .txt or
    .md file, a .jsonl or .parquet file with "#column" (by default "text"), or a directory written by
    `datasets.save_to_disk`, with "#column" too. Of a file that is one document no more than `most` characters are read.

    Raises as `load_corpus`; a malformed row is reported when it is reached.
    """
    if source is None or source == BUILTIN:
        return read_pydoc()
    if source == STDLIB:
        return read_stdlib()
    if is_builtin(source):
        raise CorpusNotFound(f"a built-in corpus must be {BUILTIN!r} or {STDLIB!r}, but got corpus={source!r}")
    path, column = _path_and_column(source)
    if not exists(path):
        known = f"{BUILTIN!r}, {STDLIB!r} or an existing path"
        raise CorpusNotFound(f"a corpus must be {known}, but got corpus={source!r}")
    reader = _reader(path, source)
    return read_text(path, column, most=most) if reader is read_text else reader(path, column)


def default_corpus(length: int) -> str | None:
    """What documents of `length` tokens are cut from where nothing else is asked for: None, the Python reference, for
    those of which its splits hold several, and longer text for longer ones.

    Whoever accepts a job writes it into the spec: what was accepted with no corpus keeps to the Python reference.
    """
    return None if length <= _PYDOC_TOKENS else STDLIB


def corpus_path(source: str | None) -> Path | None:
    """The file or the directory of a corpus; None of a built-in one."""
    return None if source is None or is_builtin(source) else _path_and_column(source)[0]


def is_builtin(source: str) -> bool:
    """Whether the name is no path, but one of the corpora that come with the project (or none that is known)."""
    return source.startswith("builtin:")


def possible_paths(source: str) -> tuple[Path, ...]:
    """Every path that reading a corpus of this name may open: `#` may be a part of it, or begin a column."""
    return (user_path(source), *([user_path(source.rsplit("#", 1)[0])] if "#" in source else []))


def _path_and_column(source: str) -> tuple[Path, str | None]:
    whole = user_path(source)
    if exists(whole) or "#" not in source:
        return whole, None
    path, column = source.rsplit("#", 1)
    return user_path(path), column or DEFAULT_COLUMN


def _reader(path: Path, source: str) -> _Reader:
    if is_directory(path):
        return read_dataset
    if not is_file(path):
        raise InvalidCorpus(f"a corpus must be a regular file or a directory, but got corpus={source!r}")
    reader = _FILES.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(_FILES)
        raise InvalidCorpus(f"a corpus file must end in one of {kinds}, or be a directory, but got corpus={source!r}")
    return reader
