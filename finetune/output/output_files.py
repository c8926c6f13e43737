"""What an output directory holds beside the model's own files, and what kind of output it is. Nothing heavy is imported
here: the API asks this of a directory before a job exists."""

from __future__ import annotations

from pathlib import Path

from evaluation.models.user_path import is_file

FACTORS_NAME = "factors.json"
CARD_NAME = "README.md"
ADAPTER_CONFIG = "adapter_config.json"


def is_adapter(directory: Path) -> bool:
    """Whether it holds an adapter, which is no model by itself."""
    return is_file(directory / ADAPTER_CONFIG)
