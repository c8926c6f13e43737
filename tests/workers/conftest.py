from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.samples import ORIGINAL_LENGTH, TARGET_LENGTH, save_llama
from workers.base import ScorerSettings
from workers.pool.cluster import ensure_ray, shutdown_ray


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


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray with two CPUs, for all tests that ask."""
    ensure_ray(num_cpus=2)
    yield
    shutdown_ray()
