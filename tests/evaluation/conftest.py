"""A real tokenizer, trained here in a second: byte-level BPE with digits split, as the pocket model's."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from evaluation.documents.corpus import Corpus, load_corpus
from evaluation.documents.factory import DocumentFactory
from evaluation.documents.needle import NEEDLE
from evaluation.models.tokenizer import HFTokenizer
from tests.helpers.paths import POCKET


def train_backend(text: str, *, vocabulary: int = 700, split_digits: bool = True) -> Backend:
    backend = Backend(models.BPE(unk_token=None))
    steps: list[pre_tokenizers.PreTokenizer] = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if split_digits:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([text], trainer)
    return backend


def as_transformers(backend: Backend, **names: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)  # type: ignore[no-untyped-call]


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
