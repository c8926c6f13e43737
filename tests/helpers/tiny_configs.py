"""Configs of tiny models, as a ``config.json`` has them: enough for what is read without weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

_BASE: Mapping[str, object] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "torch_dtype": "float32",
}


def config_of(model_type: str, **fields: object) -> dict[str, object]:
    """A model of two layers and 64 tokens, `fields` in place of its own."""
    return {**_BASE, "model_type": model_type, **fields}


def nested_config() -> dict[str, object]:
    """A text model of two layers beside a small vision tower."""
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = config_of("gemma3_text", head_dim=8, layer_types=["full_attention"] * 2)
    return {
        "model_type": "gemma3",
        "torch_dtype": "float32",
        "text_config": text,
        "vision_config": {**vision, "image_size": 28},
    }


def saved(directory: Path, config: Mapping[str, object]) -> str:
    """The name of a model directory that holds nothing but `config`."""
    (directory / "config.json").write_text(json.dumps(config))
    return str(directory)
