"""What an output directory holds beside the model's own files, and what kind of output it is. Nothing heavy is imported
here: the API asks this of a directory before a job exists."""

from __future__ import annotations

from pathlib import Path

from evaluation.models.user_path import is_file

FACTORS_NAME = "factors.json"
CARD_NAME = "README.md"
CONFIG = "config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
"""Copied from the model, where it has them."""


def is_adapter(directory: Path) -> bool:
    """Whether it holds an adapter, which is no model by itself."""
    return is_file(directory / ADAPTER_CONFIG)
