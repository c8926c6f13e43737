"""The pocket model as any program loads it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from evaluation.documents.corpus import Corpus, load_corpus
from tests.helpers.paths import POCKET


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return load_corpus(None)


@pytest.fixture(scope="module")
def pocket() -> Iterator[PreTrainedModel]:
    """Shared by the tests of a file: each leaves it as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield AutoModelForCausalLM.from_pretrained(POCKET, dtype=torch.float32, use_safetensors=True)
    torch.set_num_threads(threads)
