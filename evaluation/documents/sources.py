"""Readers of corpora: each gives the texts of one kind of source one after the other, without holding them all.

Heavy libraries are imported where they are used.
"""

from __future__ import annotations

import functools
import json
import re
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from evaluation.errors import CorpusNotFound, InvalidCorpus
from evaluation.models.user_path import is_file

BUILTIN = "builtin:pydoc"
STDLIB = "builtin:stdlib"
DEFAULT_COLUMN = "text"
_NOT_LIBRARY = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "pydoc_data", "__pycache__"})
_PIECE_CHARACTERS = 1 << 20


def read_pydoc() -> Iterator[str]:
    """The Python reference that ships with the interpreter: its topics by name, in ASCII, blanks collapsed."""
    yield _pydoc()


@functools.cache
def _pydoc() -> str:
    from pydoc_data.topics import topics

    return tidy("\n\n".join(topics[name] for name in sorted(topics)).encode("ascii", "ignore").decode("ascii"))


def read_stdlib() -> Iterator[str]:
    """The sources of the interpreter's standard library, a module each by path, in ASCII, blanks collapsed; without
    tests, and without the data of which the other built-in corpus is made."""
    root = Path(sysconfig.get_path("stdlib"))
    for file in sorted(root.rglob("*.py")):
        if not _NOT_LIBRARY & set(file.relative_to(root).parts[:-1]):
            yield tidy(file.read_text(encoding="utf-8", errors="ignore").encode("ascii", "ignore").decode("ascii"))


def tidy(text: str) -> str:
    """Runs of blanks become one, trailing blanks go, three and more line ends become two."""
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" *\r?\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text)


def read_text(path: Path, column: str | None, *, most: int | None = None) -> Iterator[str]:
    """A text file in UTF-8, whole or its first `most` characters: one document, so it is held in memory."""
    if column is not None:
        raise CorpusNotFound(f"a text file has no columns, but got column={column!r} of {str(path)!r}")
    yield "".join(_lines(path)) if most is None else _beginning(path, most)


def read_jsonl(path: Path, column: str | None) -> Iterator[str]:
    """One column of a JSON Lines file."""
    name = column or DEFAULT_COLUMN
    lines = enumerate(_lines(path), 1)
    return _texts((_json_row(path, number, line.rstrip("\n"), name) for number, line in lines if line.strip()), path)


def _beginning(path: Path, most: int) -> str:
    """Up to `most` characters, however long the file and its lines are."""
    pieces: list[str] = []
    characters, held = 0, ""
    with _opened(path) as file:
        while characters < most and (piece := file.read(_PIECE_CHARACTERS)):
            piece = held + piece
            held = "\r" if piece.endswith("\r") else ""  # its other half may begin the next piece
            pieces.append(piece.removesuffix(held).replace("\r\n", "\n"))
            characters += len(pieces[-1])
    return "".join([*pieces, held])[:most]


def _lines(path: Path) -> Iterator[str]:
    with _opened(path) as file:
        for line in file:
            yield line.replace("\r\n", "\n")


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            yield file
    except UnicodeDecodeError as error:
        raise InvalidCorpus(f"a corpus must be UTF-8 text, but {str(path)!r} is not: {error.reason}") from error
    except OSError as error:
        raise InvalidCorpus(f"a corpus must be readable, but {str(path)!r} is not: {error.strerror}") from error


def _json_row(path: Path, number: int, line: str, column: str) -> object:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # too long a number, too deep a nesting
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise InvalidCorpus(
            f"each line must be a JSON object, but line {number} of {str(path)!r} is not: {reason}"
        ) from error
    if not isinstance(row, dict):
        raise InvalidCorpus(f"each line must be a JSON object, but line {number} of {str(path)!r} is {line[:40]!r}")
    if column not in row:
        raise _no_column(path, column, row)
    return row[column]


def read_parquet(path: Path, column: str | None) -> Iterator[str]:
    """One column of a Parquet file."""
    return _texts(_parquet_rows(path, column or DEFAULT_COLUMN), path)


def _parquet_rows(path: Path, column: str) -> Iterator[object]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        if column not in table.schema_arrow.names:
            raise _no_column(path, column, table.schema_arrow.names)
        for batch in table.iter_batches(columns=[column]):
            yield from batch.column(0).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidCorpus(f"a .parquet corpus must be a Parquet file, but {str(path)!r} is not: {error}") from error


def read_dataset(path: Path, column: str | None) -> Iterator[str]:
    """One column of a dataset written by `save_to_disk`; of several splits, "train" or the only one."""
    import datasets

    name = column or DEFAULT_COLUMN
    try:
        _check_tables(path)
        data = datasets.load_from_disk(str(path))
    except InvalidCorpus:
        raise
    except Exception as error:  # the library raises whatever the broken part raises
        raise InvalidCorpus(
            f"a corpus directory must be a dataset written by save_to_disk, but {str(path)!r} is not"
        ) from error
    if isinstance(data, datasets.DatasetDict):
        data = _only_split(data, path)
    if name not in data.column_names:
        raise _no_column(path, name, data.column_names)
    return _texts(data[name], path)


def _check_tables(path: Path) -> None:
    """Raise InvalidCorpus for a table that is no regular file: the library would open a FIFO and wait for ever."""
    splits = [path / name for name in _metadata(path / "dataset_dict.json").get("splits", ())]
    for part in (path, *splits):
        for table in _metadata(part / "state.json").get("_data_files", ()):
            file = part / table["filename"]
            if not is_file(file) or path.resolve() not in file.resolve().parents:
                raise InvalidCorpus(f"the tables of a dataset must be regular files in it, but {str(file)!r} is none")


def _metadata(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if is_file(file) else {}


def _only_split(splits: dict[str, object], path: Path) -> object:
    if "train" not in splits and len(splits) != 1:
        raise InvalidCorpus(
            f"a dataset must have one split or a split named 'train', but {str(path)!r} has {', '.join(splits)}"
        )
    return splits.get("train", next(iter(splits.values())))


def _no_column(path: Path, column: str, columns: Iterable[str]) -> CorpusNotFound:
    known = _unicode(", ".join(columns))
    return CorpusNotFound(f"the column must be one of {known}, but got column={column!r} of {str(path)!r}")


def _texts(rows: Iterable[object], path: Path) -> Iterator[str]:
    for number, row in enumerate(rows, 1):
        if row is None:
            continue  # a missing value in a column of text
        if not isinstance(row, str):
            raise InvalidCorpus(f"the column must hold text, but row {number} of {str(path)!r} is {type(row).__name__}")
        yield _unicode(row.strip("\n"))


def _unicode(text: str) -> str:
    """The text with "?" for each half of a character, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()
