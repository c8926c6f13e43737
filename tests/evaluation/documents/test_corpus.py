"""Every kind of corpus, every way to get one wrong, and splits that share nothing."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.documents import dividing, sources, splitting
from evaluation.documents.corpus import Corpus, default_corpus, load_corpus
from evaluation.documents.needle import SPLITS, Split
from evaluation.documents.splitting import WINDOW, split_lines, window_hashes, without_windows
from evaluation.errors import CorpusNotFound, InvalidCorpus
from evaluation.models import readings

ROWS = ["First row.\nOf two lines.", "Second row, with ünïcode."]
JOINED = "\n\n".join(ROWS)


def windows(text: str) -> set[str]:
    return {text[at : at + WINDOW] for at in range(len(text) - WINDOW + 1)}


def share_nothing(texts: Mapping[Split, str]) -> bool:
    found = [windows(text) for text in texts.values()]
    return sum(map(len, found)) == len(set().union(*found))


def test_the_built_in_corpus_is_the_python_reference(pydoc: Corpus) -> None:
    assert load_corpus("builtin:pydoc") == pydoc
    assert "assert" in pydoc.text
    assert pydoc.text.isascii()
    assert len(pydoc.text) > 300_000
    assert pydoc.sha256 == hashlib.sha256(pydoc.text.encode()).hexdigest()
    assert "\n\n\n" not in pydoc.text
    assert "  " not in pydoc.text


def test_its_splits_share_nothing_and_have_their_sizes(pydoc: Corpus) -> None:
    texts = {split: pydoc.split_text(split) for split in SPLITS}
    assert share_nothing(texts)
    total = sum(map(len, texts.values()))
    assert total > 0.7 * len(pydoc.text)
    shares = {split: len(text) / total for split, text in texts.items()}
    assert shares == pytest.approx({"train": 0.2, "search": 0.4, "validation": 0.4}, abs=0.04)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), lines=st.integers(1, 400), phrases=st.integers(2, 60))
def test_a_text_full_of_repeats_is_dealt_out_without_any(seed: int, lines: int, phrases: int) -> None:
    rng = random.Random(seed)
    bank = ["".join(rng.choices("abcde \n", k=rng.randint(5, 90))) for _ in range(phrases)]
    text = "\n".join(rng.choice(bank) + str(rng.randint(0, 9)) for _ in range(lines))
    texts = split_lines(text)
    assert share_nothing(texts)
    assert all(line in text for part in texts.values() for line in part.splitlines())


def in_rounds(lines: list[str], taken: set[str]) -> list[str]:
    """What dropping lines comes to, written down plainly: the whole text again in every round."""
    while True:
        text, ends = "".join(lines), list(itertools.accumulate(map(len, lines)))
        last = {at + WINDOW - 1 for at in range(len(text) - WINDOW + 1) if text[at : at + WINDOW] in taken}
        dropped = {bisect.bisect_right(ends, position) for position in last}
        if not dropped:
            return lines
        lines = [line for index, line in enumerate(lines) if index not in dropped]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), lines=st.integers(0, 120), phrases=st.integers(2, 30))
def test_only_the_gaps_are_looked_at_again_and_nothing_is_missed(seed: int, lines: int, phrases: int) -> None:
    rng = random.Random(seed)
    bank = ["".join(rng.choices("ab", k=rng.randint(1, 60))) + "\n" for _ in range(phrases)]
    mine, other = ([rng.choice(bank) for _ in range(lines)] for _ in range(2))
    taken = np.sort(window_hashes("".join(other)))
    assert without_windows(mine, taken) == in_rounds(mine, windows("".join(other)))


def test_a_text_that_needs_many_rounds_is_dealt_out_in_time_that_grows_with_it() -> None:
    # Source code in small: short lines that come back in other company, so that every gap makes new repeats.
    rng = random.Random(0)
    bank = ["".join(rng.choices("abcdefgh ", k=rng.randint(4, 30))) + "\n" for _ in range(400)]

    def seconds(lines: int) -> float:
        text = "".join(rng.choices(bank, k=lines))
        began = time.process_time()
        split_lines(text)
        return time.process_time() - began

    seconds(100)
    small, large = seconds(4_000), seconds(40_000)
    assert large < 40 * small


def test_a_text_without_repeats_is_kept_whole() -> None:
    rng = random.Random(0)
    text = "".join("".join(rng.choices("abcdefghij ", k=60)) + "\n" for _ in range(3000))
    texts = split_lines(text)
    assert sum(map(len, texts.values())) in (len(text), len(text) + 2)
    blocks = [block for part in texts.values() for block in part.splitlines()]
    assert sorted(block for block in blocks if block) == sorted(text.splitlines())


def test_a_text_without_lines_is_dealt_out_too() -> None:
    rng = random.Random(0)
    texts = split_lines(" ".join("".join(rng.choices("abcdefghij", k=7)) for _ in range(20_000)))
    assert min(map(len, texts.values())) > 20_000
    assert share_nothing(texts)


def test_window_hashes_know_equal_from_different() -> None:
    text = "".join(random.Random(1).choices("ab\u4e00", k=500)) * 2
    hashes = window_hashes(text)
    assert len(hashes) == len(text) - WINDOW + 1
    assert len(set(hashes.tolist())) == len(windows(text)) == 500
    assert len(window_hashes("short")) == 0


def test_text_files(tmp_path: Path) -> None:
    for name in ("book.txt", "book.md", "Book.TXT"):
        path = tmp_path / name
        path.write_bytes(b"\xef\xbb\xbf" + JOINED.replace("\n", "\r\n").encode())
        corpus = load_corpus(str(path))
        assert corpus.text == JOINED
        assert corpus.name == str(path)


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": row, "body": row[:5], "n": 1}) for row in ROWS) + "\n\n")
    assert load_corpus(str(path)).text == JOINED
    assert load_corpus(f"{path}#body").text == "First\n\nSecon"
    with pytest.raises(CorpusNotFound, match="one of text, body, n, but got column='title'"):
        load_corpus(f"{path}#title")
    with pytest.raises(InvalidCorpus, match=r"row 1 of .* is int"):
        load_corpus(f"{path}#n")


def test_jsonl_with_half_a_character(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "cut \\ud83d here"}\n')
    assert load_corpus(str(path)).text == "cut ? here"
    assert load_corpus(str(path)).sha256
    path.write_text('{"\\ud83d": "cut"}\n')
    with pytest.raises(CorpusNotFound, match=r"must be one of \?, but"):
        load_corpus(str(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"text": "a"}\n{"text": ', "line 2 of .* is not"),
        ('["a"]\n', "line 1 of .* is '\\[\"a\"\\]'"),
        ("\n\n", "is empty"),
        ('{"text": null}\n', "is empty"),
        ('{"text": ' + "[" * 100_000, "line 1 of .* is not: maximum recursion depth"),
        ('{"text": ' + "1" * 5000 + "}", r"line 1 of .* is not: Exceeds the limit \(4300"),
    ],
)
def test_malformed_jsonl(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(InvalidCorpus, match=said):
        load_corpus(str(path))


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": [*ROWS, None], "n": [1, 2, 3]}), path)
    assert load_corpus(str(path)).text == JOINED
    assert load_corpus(f"{path}#text").text == JOINED
    with pytest.raises(CorpusNotFound, match="one of text, n, but got column='body'"):
        load_corpus(f"{path}#body")
    with pytest.raises(InvalidCorpus, match=r"row 1 of .* is int"):
        load_corpus(f"{path}#n")
    path.write_text("no parquet")
    with pytest.raises(InvalidCorpus, match="must be a Parquet file"):
        load_corpus(str(path))


def test_dataset_directory(tmp_path: Path) -> None:
    one = datasets.Dataset.from_dict({"text": ROWS, "n": [1, 2]})
    other = datasets.Dataset.from_dict({"text": ["other"]})
    one.save_to_disk(str(tmp_path / "plain"))
    datasets.DatasetDict({"train": one, "test": other}).save_to_disk(str(tmp_path / "splits"))
    datasets.DatasetDict({"only": one}).save_to_disk(str(tmp_path / "single"))
    datasets.DatasetDict({"a": one, "b": other}).save_to_disk(str(tmp_path / "ambiguous"))
    for name in ("plain", "plain#text", "splits", "single"):
        assert load_corpus(str(tmp_path / name)).text == JOINED
    with pytest.raises(CorpusNotFound, match="column='body'"):
        load_corpus(str(tmp_path / "plain#body"))
    with pytest.raises(InvalidCorpus, match=r"one split or a split named 'train', but .* has a, b"):
        load_corpus(str(tmp_path / "ambiguous"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidCorpus, match="written by save_to_disk"):
        load_corpus(str(tmp_path / "folder"))


def test_what_would_never_end_is_not_opened(tmp_path: Path) -> None:
    """Reading a FIFO that nobody writes would wait for ever, and a device has no end."""
    os.mkfifo(tmp_path / "fifo.txt")
    os.mkfifo(tmp_path / "fifo.jsonl")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    for name in ("fifo.txt", "fifo.jsonl#text", "zero.txt"):
        with pytest.raises(InvalidCorpus, match=r"must be a regular file or a directory, but got corpus="):
            load_corpus(str(tmp_path / name))
    rows = datasets.Dataset.from_dict({"text": ROWS})
    for name, part, data in (("plain", "plain", rows), ("splits", "splits/train", datasets.DatasetDict(train=rows))):
        data.save_to_disk(str(tmp_path / name))
        (table,) = (tmp_path / part).glob("*.arrow")
        table.unlink()
        os.mkfifo(table)
        with pytest.raises(InvalidCorpus, match=r"must be regular files in it, but .*arrow' is none"):
            load_corpus(str(tmp_path / name))


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    for source in (str(tmp_path / "none.txt"), f"{tmp_path}/none.jsonl#text", "nowhere", f"{tmp_path}/{'a' * 300}#b"):
        with pytest.raises(CorpusNotFound, match="existing path, but got corpus="):
            load_corpus(source)
    with pytest.raises(CorpusNotFound, match="'builtin:poems'"):
        load_corpus("builtin:poems")


def test_a_corpus_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "book.pdf").write_bytes(b"%PDF")
    (tmp_path / "book.txt").write_text(JOINED)
    for name, said in (
        ("empty.txt", "is empty"),
        ("latin.txt", "must be UTF-8 text"),
        ("book.pdf", "must end in one of .txt, .md, .jsonl, .parquet"),
    ):
        with pytest.raises(InvalidCorpus, match=said):
            load_corpus(str(tmp_path / name))
    with pytest.raises(CorpusNotFound, match="a text file has no columns, but got column='text'"):
        load_corpus(f"{tmp_path}/book.txt#text")


def test_a_hash_sign_may_be_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "c#.txt").write_text(JOINED)
    assert load_corpus(str(tmp_path / "c#.txt")).text == JOINED


def test_a_long_text_is_divided_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rng = random.Random(1)
    text = "\n".join(" ".join("".join(rng.choices("abcdefghij", k=6)) for _ in range(12)) for _ in range(7000))
    assert len(text) > dividing.QUICK_CHARACTERS
    expected = split_lines(text)
    assert dividing.divide(text) == expected
    (kept,) = (tmp_path / "ropewalk").iterdir()
    dividing._known.clear()  # as another process
    monkeypatch.setattr(splitting, "split_lines", lambda text: pytest.fail("divided again"))
    assert dividing.divide(text) == expected
    assert Corpus(name="the same", text=text).split_text("search") == expected["search"]
    kept.write_text('{"search": 1}')
    dividing._known.clear()
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert dividing.divide(text) == expected, "what is broken is divided anew"


def test_what_is_kept_of_a_kind_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    readings.keep("rotary-1", 1)
    for number in range(5):
        readings.keep(f"splits-{number}", number, most=3)
        os.utime(tmp_path / "ropewalk" / f"splits-{number}.json", (number, number))
    assert [readings.recall(f"splits-{number}") for number in range(5)] == [None, None, 2, 3, 4]
    assert readings.recall("rotary-1") == 1


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1 << 20])
def test_of_a_long_file_only_the_beginning_is_read(piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_PIECE_CHARACTERS", piece)
    path, text = tmp_path / "long.txt", "ab\r\nc\r\r\n\rdé\r\n" * 3
    path.write_bytes(text.encode())
    whole = text.replace("\r\n", "\n")
    assert list(sources.read_text(path, None)) == [whole]
    for most in range(1, len(whole) + 3):
        assert list(sources.read_text(path, None, most=most)) == [whole[:most]]


def test_the_long_built_in_corpus_holds_long_documents_of_every_split() -> None:
    stdlib = load_corpus("builtin:stdlib")
    assert len(stdlib.text) > 4_000_000
    assert stdlib.text.isascii()
    assert "def " in stdlib.text
    assert load_corpus("builtin:stdlib") == stdlib
    with pytest.raises(CorpusNotFound, match=r"must be 'builtin:pydoc' or 'builtin:stdlib', but got"):
        load_corpus("builtin:none")


def test_long_documents_are_cut_from_the_long_built_in_corpus() -> None:
    assert [default_corpus(length) for length in (1024, 8192, 8193, 131_072)] == [None, None, *["builtin:stdlib"] * 2]
