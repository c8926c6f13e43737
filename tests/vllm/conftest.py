"""Engines are shared by all tests that can: one takes as long to start as a hundred tests to run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.samples import ORIGINAL_LENGTH, TARGET_LENGTH
from tests.helpers.switched_engines import Engines, switched_engines
from tests.helpers.vllm_forked import loaded_vllm
from tests.helpers.vllm_models import save_phi3, save_smollm2, vllm_settings
from workers.base import ScorerSettings
from workers.vllm_backend import process as vllm_process
from workers.vllm_backend.scorer import VllmScorer

# Real vLLM has an environment of its own; tests/conftest.py says so where it is missing.
collect_ignore_glob = [] if importlib.util.find_spec("vllm") else ["test_*.py"]


@pytest.fixture(scope="session")
def phi3_settings(tmp_path_factory: pytest.TempPathFactory) -> ScorerSettings:
    """A model whose config says longrope, and which rotates half of each head."""
    path = save_phi3(tmp_path_factory.mktemp("phi3"))
    return vllm_settings(model=str(path), original_length=ORIGINAL_LENGTH, target_length=TARGET_LENGTH)


@pytest.fixture(scope="session")
def phi3_scorer(phi3_settings: ScorerSettings, loaded: tuple[str, ...]) -> Iterator[VllmScorer]:
    yield from _opened(phi3_settings, loaded)


@pytest.fixture(scope="session")
def pocket_scorer(loaded: tuple[str, ...]) -> Iterator[VllmScorer]:
    yield from _opened(vllm_settings(), loaded)


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_smollm2(tmp_path_factory.mktemp("smollm2"))


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make engines start as one of tests/helpers/vllm_children.py, for what must be known before vLLM is imported."""
    return lambda kind: monkeypatch.setattr(vllm_process, "_CHILD", ("tests.helpers.vllm_children", kind))


@pytest.fixture
def forked_child(loaded: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """The same with vLLM loaded."""
    return lambda kind: monkeypatch.setattr(vllm_process, "_CHILD", (*loaded, kind))


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    with loaded_vllm(tmp_path_factory.mktemp("vllm")) as instead:
        yield instead


@pytest.fixture
def forked_engines(loaded: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """For engines that are about a model and not about their process: they start with vLLM loaded."""
    monkeypatch.setattr(vllm_process, "_CHILD", loaded)


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    """vLLM as users start it, with the plugin and without."""
    with switched_engines() as found:
        yield found


def _opened(settings: ScorerSettings, child: tuple[str, ...]) -> Iterator[VllmScorer]:
    """Of one that is used by tests of what it says; tests of its process start their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vllm_process, "_CHILD", child)
        scorer = VllmScorer(settings)
    yield scorer
    scorer.close()
