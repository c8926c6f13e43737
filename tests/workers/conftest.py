from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.samples import ORIGINAL_LENGTH, TARGET_LENGTH, save_llama
from workers.base import ScorerSettings


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with random weights."""
    return save_llama(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture(scope="session")
def analytic_settings(tiny_model: Path) -> ScorerSettings:
    return ScorerSettings(
        model=str(tiny_model), backend="analytic", target_length=TARGET_LENGTH, original_length=ORIGINAL_LENGTH
    )


@pytest.fixture(scope="session")
def transformers_settings(tiny_model: Path) -> ScorerSettings:
    return ScorerSettings(
        model=str(tiny_model),
        backend="transformers",
        dtype="float32",
        target_length=TARGET_LENGTH,
        original_length=ORIGINAL_LENGTH,
        threads=1,
    )
