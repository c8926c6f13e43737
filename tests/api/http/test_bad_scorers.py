"""What cannot score here is refused over REST and by the command line, in one line, before anything starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from api.cli import run
from tests.helpers.hardware import install_vllm, pretend_gpu
from tests.helpers.http_server import POCKET_SPEC, RunningServer
from tests.helpers.paths import POCKET


def large_model(directory: Path) -> Path:
    """The pocket model with a tebibyte of weights, of which the disk holds the names alone."""
    shutil.copytree(POCKET, directory, ignore=shutil.ignore_patterns("*.safetensors"))
    header = json.dumps({"wide": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}).encode()
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2**40)
    return directory


def refused(server: RunningServer, **changes: Any) -> str:
    """What the server says of the spec with `changes`; it must be one line, and nothing may have been created."""
    with server.http as http:
        response = http.post("/v1/searches", json={**POCKET_SPEC, **changes})
        assert http.get("/v1/searches").json()["items"] == []
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "SCORER_UNAVAILABLE"), problem
    detail: str = problem["detail"]
    assert "\n" not in detail
    return detail


def test_vllm_is_missing(quiet_server: RunningServer) -> None:
    detail = refused(quiet_server, scorer={"backend": "vllm"})
    assert detail.startswith("backend=vllm needs vLLM 0.32 ")
    assert detail.endswith("but vLLM is not installed")


def test_vllm_of_another_version(quiet_server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_vllm(tmp_path, "0.31.9", monkeypatch)
    detail = refused(quiet_server, scorer={"backend": "vllm"})
    assert detail.endswith("but vLLM must be of version 0.32, but 0.31.9 is installed")


def test_more_ranks_than_gpus(quiet_server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_vllm(tmp_path, "0.32.0", monkeypatch)
    detail = refused(quiet_server, scorer={"backend": "vllm", "tensor_parallel": 2})
    assert detail == ("tensor_parallel must be at most the GPUs of the machine, but got tensor_parallel=2 with 0 GPUs")


@pytest.mark.parametrize("backend", ["transformers", "vllm"])
def test_a_dtype_that_the_gpu_has_not(
    quiet_server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    install_vllm(tmp_path, "0.32.0", monkeypatch)
    pretend_gpu(monkeypatch, name="Tesla T4", capability=(7, 5))
    assert refused(quiet_server, scorer={"backend": backend, "dtype": "bfloat16"}) == (
        "dtype must be one that the device computes in: float32 or float16 on Tesla T4 of compute capability 7.5, "
        "but got dtype=bfloat16, which needs 8.0"
    )


@pytest.mark.parametrize("backend", ["transformers", "vllm"])
def test_a_model_that_is_too_large(
    quiet_server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    (tmp_path / "vllm-0.32").mkdir()
    install_vllm(tmp_path / "vllm-0.32", "0.32.0", monkeypatch)
    detail = refused(quiet_server, model=str(large_model(tmp_path / "large")), scorer={"backend": backend})
    assert detail.startswith("a model must fit the memory of cpu ")
    assert " GiB, but 1024.00 GiB of weights over 1 rank" in detail


def test_a_model_that_is_too_large_to_evaluate(quiet_server: RunningServer, tmp_path: Path) -> None:
    spec = {"model": str(large_model(tmp_path / "large")), "target_length": 1024}
    with quiet_server.http as http:
        problem = http.post("/v1/evaluations", json=spec).json()
        assert http.get("/v1/evaluations").json()["items"] == []
    assert problem["code"] == "SCORER_UNAVAILABLE"
    assert problem["detail"].startswith("a model must fit the memory of cpu ")


def test_a_length_that_is_too_large_for_the_kv_cache(
    quiet_server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vLLM's own limit, max_model_len, above what its KV cache can hold."""
    (tmp_path / "vllm-0.32").mkdir()
    install_vllm(tmp_path / "vllm-0.32", "0.32.0", monkeypatch)
    model = shutil.copytree(POCKET, tmp_path / "deep")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 64, "head_dim": 16384}))
    detail = refused(quiet_server, model=str(model), target_length=2**24, scorer={"backend": "vllm"})
    assert "0.00 GiB of weights over 1 rank and " in detail
    assert "GiB of KV cache for target_length=16777216 need" in detail


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend", "vllm"], "backend=vllm needs vLLM 0.32"),
        (["--backend", "gguf"], "a backend other than auto must be one of transformers"),
        (["--dtype", "int8"], "dtype must be one of"),
        (["--dtype", "bfloat16"], "which needs 8.0"),
    ],
)
def test_the_command_line_says_the_same(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_gpu(monkeypatch, name="Tesla T4", capability=(7, 5))
    score = ["score", "--model", "pocket", "--factors", "yarn", "--target-length", "512", "--documents", "1"]
    assert run([*score, *arguments]) != 0
    told = capsys.readouterr().err.strip()
    assert words in told
    assert "\n" not in told
    assert "Traceback" not in told
