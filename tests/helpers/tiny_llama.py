"""A tiny random Llama with a tokenizer, on disk as any other model, and factor files for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evaluation.documents.corpus import load_corpus
from evaluation.documents.needle import NEEDLE, QUESTION
from evaluation.models.source import ModelSource, model_sha256, resolve_model
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.rope.published import PairFactors
from search_space.candidates.baselines import baseline

ORIGINAL_LENGTH = 128


TARGET_LENGTH = 320


def _save_tokenizer(directory: Path) -> None:
    """Byte-level BPE, each digit a token of its own, so that needles fit into short documents."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    sentences = [text.format(key=key, value="0123456789") for text in (NEEDLE, QUESTION) for key in ("apple", "river")]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*sentences, *[load_corpus(None).text[:100_000]]], trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=ORIGINAL_LENGTH)  # type: ignore[no-untyped-call]
    wrapped.save_pretrained(directory)


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny") / "model"
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=ORIGINAL_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
        initializer_range=0.3,  # large enough for attention to matter without training
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(directory)  # type: ignore[no-untyped-call]
    _save_tokenizer(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_source(tiny_directory: Path) -> ModelSource:
    return resolve_model(str(tiny_directory))


def make_factor_file(
    source: ModelSource, *, target_length: int, name: str = "yarn", attention_factor: float = 1.0
) -> FactorFile:
    return FactorFile(
        model=ModelIdentity.of(source.rope, name=source.name, sha256=model_sha256(source)),
        original_max_position_embeddings=source.rope.original_max_position_embeddings,
        target_length=target_length,
        attention_factor=attention_factor,
        short_factor=PairFactors((1.0,) * source.rope.num_pairs),
        long_factor=PairFactors(baseline(name, source.rope, target_length).scaling.factors.values),
    )


@pytest.fixture(scope="session")
def factor_file(tiny_source: ModelSource) -> FactorFile:
    return make_factor_file(tiny_source, target_length=TARGET_LENGTH)
