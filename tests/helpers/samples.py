"""A tiny random model on disk, and documents for it: what a scorer needs to be exercised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from evaluation.documents.needle import NEEDLE, QUESTION, NeedleDocument
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.rescale_factors import RescaleFactors

VOCABULARY = 64
ORIGINAL_LENGTH = 64
TARGET_LENGTH = 256
ROPE = RopeConfig(rope_theta=1000.0, rotary_dim=16, original_max_position_embeddings=ORIGINAL_LENGTH)
IDENTITY = RescaleFactors.identity(ROPE.num_pairs)
STRETCHED = RescaleFactors((1.0, 1.2, 1.7, 2.4, 4.0, 4.4, 5.0, 6.5))


def llama_config(**changes: Any) -> transformers.LlamaConfig:
    values: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 48,
        "max_position_embeddings": ORIGINAL_LENGTH,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE.rope_theta},
        "initializer_range": 0.4,  # large, so that attention is far from uniform and positions matter
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return transformers.LlamaConfig(**{**values, **changes})


def longrope_config(factors: RescaleFactors, attention_factor: float) -> transformers.LlamaConfig:
    """The config of an exported model: what transformers itself makes of these factors."""
    return llama_config(
        max_position_embeddings=TARGET_LENGTH,
        original_max_position_embeddings=ORIGINAL_LENGTH,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": ROPE.rope_theta,
            "factor": TARGET_LENGTH / ORIGINAL_LENGTH,
            "original_max_position_embeddings": ORIGINAL_LENGTH,
            "short_factor": list(IDENTITY.values),
            "long_factor": list(factors.values),
            "attention_factor": attention_factor,
        },
    )


def save_llama(path: Path, config: transformers.LlamaConfig | None = None) -> Path:
    """The same random weights whatever the config says about positions."""
    torch.manual_seed(0)
    build: Any = transformers.LlamaForCausalLM
    build(config or llama_config()).save_pretrained(path)
    return path


def document(index: int, *, length: int = TARGET_LENGTH, needles: int = 1, answer_tokens: int = 7) -> NeedleDocument:
    """Random tokens with `needles` answers spread over the later half; the text only says what the answers would be."""
    generator = np.random.default_rng([index, length, needles])
    keys = tuple(f"key{'abcdefgh'[number]}" for number in range(needles))
    values = tuple(str(generator.integers(10**6, 10**7)) for _ in keys)
    pairs = list(zip(keys, values, strict=True))
    gap = (length - length // 2) // needles
    spans = tuple((length - number * gap - answer_tokens, length - number * gap) for number in reversed(range(needles)))
    depths = tuple((number + 0.5) / needles for number in range(needles))
    return NeedleDocument(
        id=f"search-0-{length}-{index:05d}",
        text="".join(pattern.format(key=key, value=value) for pattern in (NEEDLE, QUESTION) for key, value in pairs),
        token_ids=tuple(int(token) for token in generator.integers(1, VOCABULARY, length)),
        answer_spans=spans,
        depth=depths[0],
        depths=depths,
        keys=keys,
        values=values,
        split="search",
    )


def documents(count: int, **settings: Any) -> tuple[NeedleDocument, ...]:
    return tuple(document(index, **settings) for index in range(count))
