"""`ropewalk doctor`: what is told of this machine and of others, in sentences and as JSON."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest
import sqlalchemy as sa

from api.checkup import machine, serving, software
from api.checkup.examining import examine
from api.checkup.finding import Verdict
from api.cli import run
from api.settings import Settings
from ropewalk.version import ROPEWALK_VERSION
from storage.postgres.database import Database
from tests.helpers.http_server import running_server
from tests.helpers.waiting import free_port


def test_it_finds_what_is_and_what_is_not(tmp_path: Path, database: Database) -> None:
    settings = Settings(home=tmp_path / "home", port=free_port(), database_url=database.url)
    findings = {finding.name: finding for finding in examine(settings)}
    assert {"CPU", "memory", "shared memory", "GPU", "disk", "torch", "ray", "vllm", "Hub", "port"} <= set(findings)
    assert {findings[name].verdict for name in ("torch", "home", "PostgreSQL", "port")} == {Verdict.good}
    with running_server(database) as running:
        port = int(running.url.rpartition(":")[2])
        other = Settings(home=tmp_path / "home", port=port, database_url="postgresql://127.0.0.1:1/x")
        findings = {finding.name: finding for finding in examine(other)}
    assert {name for name, finding in findings.items() if finding.verdict is Verdict.broken} == {"PostgreSQL"}
    assert findings["port"].detail == f"Ropewalk {ROPEWALK_VERSION} answers at {running.url}"


@pytest.mark.parametrize("schema", ["ropewalk", "optuna"])
def test_tables_of_a_newer_version_are_told_with_both(schema: str, tmp_path: Path, database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {schema}.alembic_version SET version_num = '9999'"))
    settings = Settings(home=tmp_path, port=free_port(), database_url=database.url)
    (found,) = (one for one in examine(settings) if one.name == "PostgreSQL")
    assert found.verdict is Verdict.broken
    assert f"{schema}=9999" in found.detail
    assert "\n" not in found.detail


def test_as_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ROPEWALK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ROPEWALK_PORT", str(free_port()))
    assert run(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert run(["doctor"]) == 0
    *lines, blank, summary = capsys.readouterr().out.splitlines()
    assert all(re.fullmatch(r"(ok|absent|broken) +[\w ]+: .+", line) for line in lines), "a line each, never cut"
    assert [re.split(r" {2,}|: ", line)[1] for line in lines] == [check["name"] for check in told["checks"]]
    assert (blank, summary.startswith("ropewalk serve can start here.")) == ("", True)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("ROPEWALK_PORT", str(other.getsockname()[1]))
        assert run(["doctor", "--json"]) == 1
        capsys.readouterr()
        assert run(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "ropewalk serve cannot work here until this is put right: port."


def test_a_container_has_less_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2 * machine.GIB}\n")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path)
    found = machine.cores(Settings())
    assert found.verdict is Verdict.absent
    assert found.detail.startswith("1.5 CPU cores of ")
    assert "as many as the container may use" in found.detail
    found = machine.memory(Settings())
    assert found.verdict is Verdict.absent
    assert found.detail.startswith("2.0 GiB of memory, as the container may use")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.cpu_limit(tmp_path) is machine.memory_limit(tmp_path) is None
    assert "container" not in machine.cores(Settings()).detail


def test_what_is_scarce_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LEAST_SHARED", 10**18)
    assert "start the container with --shm-size=1g" in machine.shared_memory(Settings()).detail
    monkeypatch.setattr(serving, "LEAST_DISK", 10**18)
    found = serving.disk(Settings(home=tmp_path / "not" / "there"))
    assert "set ROPEWALK_HOME and HF_HOME to a larger disk" in found.detail
    assert software.extra("no_such_library", "lora", "adapters")(Settings()).detail == (
        "adapters need no_such_library, which is not installed: pip install '.[lora]'"
    )
    assert software.required("no_such_library")(Settings()).verdict is Verdict.broken
    for name, offline, token, words in (
        ("HF_HUB_OFFLINE", True, "", "unset it to fetch others"),
        ("HF_HUB_OFFLINE", False, "", "set HF_TOKEN, or run `hf auth login`"),
        ("HF_HUB_OFFLINE", False, "hf_x", "is set, for gated models and `push`"),
    ):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", offline)
        monkeypatch.setenv("HF_TOKEN", token)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
        assert words in software.hub(Settings()).detail


def test_a_ray_cluster_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    found = serving.ray_cluster(Settings())
    assert found.verdict is Verdict.broken
    assert "start its head (ray start --head), or unset it" in found.detail
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        head.listen()
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{head.getsockname()[1]}")
        assert serving.ray_cluster(Settings()).verdict is Verdict.good
