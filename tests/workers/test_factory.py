"""Which backend `auto` means, and what is refused before anything is opened. Real vLLM is in tests/vllm."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.specs.search import ScorerSpec
from tests.helpers.hardware import install_vllm, pretend_gpu
from workers.backends import BACKENDS
from workers.errors import InvalidScorerSettings, ScorerUnavailable
from workers.factory import BackendChoice, check_scorer, choose_backend
from workers.vllm_backend.version import vllm_problem


def test_auto_without_vllm() -> None:
    assert choose_backend("auto") == BackendChoice(backend="transformers", reason="vLLM is not installed")


def test_auto_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_vllm(tmp_path, "0.32.1", monkeypatch)
    assert vllm_problem() is None
    assert choose_backend("auto") == BackendChoice(backend="transformers", reason="torch sees no GPU")


def test_another_name_is_refused() -> None:
    words = "a backend other than auto must be one of transformers, vllm, analytic, but got 'gguf'"
    for ask in (choose_backend, lambda name: check_scorer(name, tensor_parallel=1)):
        with pytest.raises(InvalidScorerSettings, match=words):
            ask("gguf")


def test_a_spec_can_choose_every_backend() -> None:
    schema = ScorerSpec.model_json_schema()["properties"]["backend"]
    assert schema["enum"] == ["auto", *BACKENDS]
    with pytest.raises(ValidationError, match="Input should be 'auto', 'transformers', 'vllm' or 'analytic'"):
        ScorerSpec.model_validate({"backend": "gguf"})


def test_auto_with_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_vllm(tmp_path, "0.32.0", monkeypatch)
    assert choose_backend("auto", gradients=True).reason == "gradients are asked for"


@pytest.mark.parametrize("version", ["0.31.9", "0.320.0", "1.0.0"])
def test_other_versions_of_vllm_are_refused(tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install_vllm(tmp_path, version, monkeypatch)
    words = rf"needs vLLM 0\.32 .* but vLLM must be of version 0\.32, but {version} is installed"
    with pytest.raises(ScorerUnavailable, match=words):
        check_scorer("vllm", tensor_parallel=1)


def test_more_ranks_than_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_vllm(tmp_path, "0.32.0", monkeypatch)
    check_scorer("vllm", tensor_parallel=1)
    with pytest.raises(
        ScorerUnavailable, match="at most the GPUs of the machine, but got tensor_parallel=2 with 0 GPUs"
    ):
        check_scorer("vllm", tensor_parallel=2)


@pytest.mark.parametrize("backend", ["auto", "transformers", "analytic"])
def test_the_others_run_on_one_rank(backend: str) -> None:
    with pytest.raises(ScorerUnavailable, match=r"tensor_parallel must be 1 with backend=.* but got tensor_parallel=2"):
        check_scorer(backend, tensor_parallel=2)


def test_a_cluster_elsewhere_judges_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    check_scorer("auto", tensor_parallel=8)
    check_scorer("vllm", tensor_parallel=8)
    pretend_gpu(monkeypatch, name="Tesla T4", capability=(7, 5))
    check_scorer("transformers", tensor_parallel=1, dtype="bfloat16")
    with pytest.raises(ScorerUnavailable, match="tensor_parallel"):
        check_scorer("transformers", tensor_parallel=8)
    with pytest.raises(ScorerUnavailable, match="needs a scorer that differentiates"):
        check_scorer("vllm", tensor_parallel=1, gradients=True)


def test_a_dtype_that_the_gpu_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, name="Tesla T4", capability=(7, 5))
    for dtype in ("auto", "float32", "float16"):
        check_scorer("transformers", tensor_parallel=1, dtype=dtype)
    check_scorer("analytic", tensor_parallel=1, dtype="bfloat16")
    with pytest.raises(ScorerUnavailable, match=r"float32 or float16 on Tesla T4 .* 7\.5, but got dtype=bfloat16"):
        check_scorer("transformers", tensor_parallel=1, dtype="bfloat16")
