"""A tiny random Llama with a tokenizer, on disk as any other model, and factor files for it."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel

from evaluation.documents.corpus import Corpus, load_corpus
from finetune.language_model import load_model
from tests.helpers.tiny_llama import factor_file, tiny_directory, tiny_source

__all__ = ["factor_file", "tiny_directory", "tiny_source"]


@pytest.fixture
def tiny_model(tiny_directory: Path) -> LlamaForCausalLM:
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(tiny_directory, dtype=torch.float32)
    model.train(False)
    return model


@pytest.fixture
def tiny_trainable(tiny_directory: Path) -> PreTrainedModel:
    """The same weights as `tiny_model`, attending within documents."""
    model = load_model(tiny_directory)
    model.train(False)
    return model


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return load_corpus(None)
