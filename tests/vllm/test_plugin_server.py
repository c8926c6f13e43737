"""vLLM's server as users start it, by `ropewalk serve-model`, with the plugin that the package brings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from ropewalk.factors.exports.registry import export
from ropewalk.rope.published import PairFactors
from tests.helpers.exporting import LONG, ORIGINAL_LENGTH, TARGET_LENGTH, copy_of_pocket, documents, pocket_factors
from tests.helpers.paths import ROOT
from tests.helpers.waiting import free_port, is_alive, wait_until

START_SECONDS = 300.0
NEW = 12


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = pocket_factors(1.06)
    file = replace(file, short_factor=PairFactors((1.0,) * len(file.long_factor)))
    return copy_of_pocket(tmp_path_factory.mktemp("served") / "pocket", export(file, "hf"))


@contextmanager
def serving(checkpoint: Path, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """The process, which has a group of its own, and a client of it."""
    port = free_port()
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    command = [sys.executable, "-m", "api.cli", "serve-model", str(checkpoint), "--port", str(port)]
    options = ["--dtype", "float32", "--enforce-eager", "--block-size", "32", "--served-model-name", "pocket"]
    with log.open("ab") as written:
        process = subprocess.Popen(
            [*command, *options], cwd=ROOT, env=environment, stdout=written, stderr=written, start_new_session=True
        )
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            return client.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(answers, START_SECONDS, log=log)
        yield process, client
    finally:
        client.close()
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """With SIGKILL; vLLM's engine, in another process of the group, too."""
    if is_alive(process.pid):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _prompts() -> dict[str, list[int]]:
    text = list(documents(LONG)[0].token_ids)
    return {"short": text[:100], "long": text[:900], "crossing": text[: ORIGINAL_LENGTH - 4]}


def _asked(ids: list[int], **more: Any) -> dict[str, Any]:
    plain = {"model": "pocket", "max_tokens": NEW, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
    return plain | {"prompt": ids} | more


def _completed(client: httpx.Client, ids: list[int], **more: Any) -> list[int]:
    answer = client.post("/v1/completions", json=_asked(ids, **more))
    assert answer.status_code == 200, answer.text
    tokens: list[int] = answer.json()["choices"][0]["token_ids"]
    return tokens


def _streamed(client: httpx.Client, ids: list[int]) -> list[int]:
    tokens: list[int] = []
    with client.stream("POST", "/v1/completions", json=_asked(ids, stream=True)) as answer:
        assert answer.status_code == 200
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    for line in lines[:-1]:
        tokens += json.loads(line)["choices"][0]["token_ids"]
    return tokens


def _refused(client: httpx.Client, ids: list[int], **more: Any) -> str:
    answer = client.post("/v1/completions", json=_asked(ids, **more))
    assert answer.status_code == 400, answer.text
    message: str = answer.json()["error"]["message"]
    return message


def test_a_server_answers_refuses_and_comes_back(checkpoint: Path, tmp_path: Path) -> None:
    log, prompts = tmp_path / "log", _prompts()
    with serving(checkpoint, log) as (_, client):
        before = {name: _completed(client, ids) for name, ids in prompts.items()}
        assert {name: _streamed(client, ids) for name, ids in prompts.items()} == before
        # A text that has crossed L goes on as one that was longer from the beginning.
        crossed = prompts["crossing"] + before["crossing"][:5]
        assert len(crossed) == ORIGINAL_LENGTH + 1
        assert _completed(client, crossed, max_tokens=NEW - 5) == before["crossing"][5:]
        by_hand = _completed(client, prompts["short"], vllm_xargs={"ropewalk_switch": "short"})
        assert by_hand == before["short"]
        long = _completed(client, prompts["short"], vllm_xargs={"ropewalk_switch": "long"})
        assert _completed(client, prompts["short"], vllm_xargs={"ropewalk": {"switch": "long"}}) == long
        for stream in (False, True):
            assert _refused(client, prompts["short"], vllm_xargs={"ropewalk_switch": "both"}, stream=stream) == (
                "ropewalk_switch must be one of auto, short, long, but got 'both'"
            )
            assert _refused(client, prompts["short"], vllm_xargs={"ropewalk": {"switch": "no"}}, stream=stream) == (
                "ropewalk.switch must be one of auto, short, long, but got 'no'"
            )
            assert "within the original 256 tokens, but its prompt has 900" in _refused(
                client, prompts["long"], vllm_xargs={"ropewalk_switch": "short"}, stream=stream
            )
        too_long = _refused(client, prompts["long"] * 2)
        assert str(TARGET_LENGTH) in too_long
        assert "1800" in too_long
        assert _completed(client, prompts["short"]) == before["short"]
    said = log.read_text()
    assert f"texts of up to {ORIGINAL_LENGTH} tokens with its own RoPE" in said
    assert f"ropewalk: requests within {ORIGINAL_LENGTH} tokens" in said
    with serving(checkpoint, log) as (_, client):
        assert {name: _completed(client, ids) for name, ids in prompts.items()} == before
