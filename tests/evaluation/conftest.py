"""A real tokenizer, trained here in a second: byte-level BPE with digits split, as the pocket model's."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend

from evaluation.documents.corpus import Corpus, load_corpus
from evaluation.documents.factory import DocumentFactory
from evaluation.documents.needle import NEEDLE
from evaluation.models.tokenizer import HFTokenizer
from tests.helpers.paths import POCKET
from tests.helpers.tokenizers import as_transformers, train_backend


@pytest.fixture(scope="session")
def pydoc() -> Corpus:
    return load_corpus(None)


@pytest.fixture(scope="session")
def backend(pydoc: Corpus) -> Backend:
    needles = "".join(NEEDLE.format(key=key, value="1234567") for key in ("tuple", "object", "river"))
    return train_backend(pydoc.split_text("train") + needles)


@pytest.fixture(scope="session")
def tokenizer(backend: Backend) -> HFTokenizer:
    return HFTokenizer(as_transformers(backend, bos_token="<s>", eos_token="</s>"))


@pytest.fixture(scope="session")
def factory(tokenizer: HFTokenizer, pydoc: Corpus) -> DocumentFactory:
    return DocumentFactory(tokenizer, pydoc)


@pytest.fixture(scope="session")
def pocket_model() -> Path:
    return POCKET
