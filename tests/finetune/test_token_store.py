"""A corpus as tokens on disk: what is in them, tokenised once, and how large corpora are streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from evaluation.documents import corpus as corpus_module
from evaluation.documents.corpus import Corpus, load_corpus
from evaluation.documents.splitting import window_hashes
from evaluation.errors import CorpusTooShort
from evaluation.models.source import ModelSource, load_tokenizer
from evaluation.models.tokenizer import Tokenizer
from finetune import mix, text
from finetune.config import FinetuneSettings
from finetune.mix import check_long_text, demands, estimated_sizes
from finetune.token_store import TokenStore, open_token_store

HEAD = 20_000  # characters that haystacks are cut from, in these tests


@pytest.fixture(scope="module")
def tokenizer(tiny_source: ModelSource) -> Tokenizer:
    return load_tokenizer(tiny_source)


class Counting:
    """A tokenizer that counts what it encodes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.bos_token_id = tokenizer.bos_token_id
        self.fingerprint = tokenizer.fingerprint
        self.characters = 0

    def encode(self, text: str) -> list[int]:
        self.characters += len(text)
        return self._tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids)


def test_a_small_corpus_is_its_train_split(tokenizer: Tokenizer, corpus: Corpus) -> None:
    store = open_token_store(tokenizer, corpus, None, None)
    assert store.tokens.tolist() == tokenizer.encode(corpus.split_text("train"))
    assert store.ends.tolist() == [len(store.tokens)]


def test_a_corpus_is_tokenised_once_for_all_jobs(tokenizer: Tokenizer, corpus: Corpus, tmp_path: Path) -> None:
    counting = Counting(tokenizer)
    first = open_token_store(counting, corpus, None, tmp_path)
    characters = counting.characters
    again = open_token_store(counting, corpus, None, tmp_path)
    assert counting.characters == characters > 0
    assert isinstance(again.tokens, np.memmap)
    assert np.array_equal(first.tokens, again.tokens)
    assert [path.name[0] != "." for path in tmp_path.iterdir()] == [True]  # no scratch is left
    other = Counting(tokenizer)
    other.fingerprint = "another tokenizer"
    others = open_token_store(other, corpus, None, tmp_path)
    assert other.characters == characters
    assert first.sha256 == again.sha256 != others.sha256
    assert {path.name for path in tmp_path.iterdir()} == {first.sha256, others.sha256}


def test_windows_lie_within_one_document_and_every_one_is_drawn() -> None:
    store = TokenStore(name="three", sha256="", tokens=np.arange(12, dtype=np.uint32), ends=np.array([3, 4, 12]))
    rng = np.random.default_rng(0)
    drawn = {tuple(store.window(rng, 3).tolist()) for _ in range(200)}
    assert drawn == {(0, 1, 2)} | {(start, start + 1, start + 2) for start in range(4, 10)}
    with pytest.raises(CorpusTooShort, match="at least 9 tokens, but the longest of corpus 'three' has 8"):
        store.window(rng, 9)


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Corpus, str, list[str]]:
    """A corpus larger than what haystacks are cut from, and its rows."""
    for module in (corpus_module, text, mix):
        monkeypatch.setattr(module, "MAX_CHARACTERS", HEAD)
    rng = np.random.default_rng(0)
    rows = [" ".join(f"{word}{rng.integers(1000)}" for word in ("alpha", "beta", "gamma") * 40) for _ in range(60)]
    path = tmp_path / "large.jsonl"
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return load_corpus(str(path)), str(path), rows


def test_past_the_haystacks_every_document_is_trained_on(
    tokenizer: Tokenizer, large: tuple[Corpus, str, list[str]]
) -> None:
    corpus, source, rows = large
    assert len(corpus.text) == HEAD
    first, *later = text.training_documents(corpus, source)
    assert first == corpus.split_text("train")
    assert later[1:] == rows[-len(later) + 1 :]  # whole, apart from the one across the border
    assert rows[-len(later)].endswith(later[0])
    store = open_token_store(tokenizer, corpus, source, None)
    assert len(store.ends) == 1 + len(later)
    assert tokenizer.decode(store.tokens[store.ends[-2] :].tolist()) == rows[-1]


def test_no_line_past_the_haystacks_shares_a_window_with_a_held_out_split(
    large: tuple[Corpus, str, list[str]], tmp_path: Path
) -> None:
    corpus, source, _ = large
    stolen = corpus.split_text("validation")[:200].strip()
    with Path(source).open("a") as file:
        file.write(json.dumps({"text": f"a line of its own\n{stolen}\nanother line of its own\n"}) + "\n")
    *_, last = text.training_documents(load_corpus(source), source)
    assert last.splitlines() == ["a line of its own", "another line of its own"]
    held_out = window_hashes(corpus.split_text("search") + corpus.split_text("validation"))
    for document in list(text.training_documents(corpus, source))[1:]:
        assert not np.isin(window_hashes(document), held_out).any()


def test_the_amount_of_long_text_is_estimated_without_tokenising_it(
    tokenizer: Tokenizer, large: tuple[Corpus, str, list[str]]
) -> None:
    corpus, source, _ = large
    counting = Counting(tokenizer)
    estimated = list(estimated_sizes(counting, corpus, source))
    assert counting.characters == len(corpus.split_text("train"))
    exact = open_token_store(tokenizer, corpus, source, None).sizes
    assert len(estimated) == len(exact)
    assert sum(estimated) == pytest.approx(exact.sum(), rel=0.1)


def test_text_is_read_no_further_than_needed() -> None:
    settings = FinetuneSettings(steps=10, needle_fraction=0.0, text_repeats=1.0)
    asked = demands(settings, original_length=128, target_length=320)
    assert [demand.needed for demand in asked] == [10 * 3 * 320]

    def sizes() -> Iterator[int]:
        yield from [320] * 30
        raise AssertionError("read too far")

    check_long_text(asked, sizes(), corpus="c", repeats=1.0)
    with pytest.raises(CorpusTooShort, match=r"9,600 tokens of text, .* at least 320, but corpus 'c' has 9,280"):
        check_long_text(asked, [320] * 29 + [319] * 100, corpus="c", repeats=1.0)
