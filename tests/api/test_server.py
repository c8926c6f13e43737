"""`ropewalk serve` as a process: what it refuses to start with, and how it stops."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from api.cli import run
from api.errors import PortTaken
from api.preflight import bind, make_home
from storage.api_keys import ApiKeys
from storage.embedded.server import EmbeddedPostgres
from storage.errors import StorageNotWritable
from storage.postgres.database import Database
from tests.helpers.waiting import free_port

STOP_SECONDS = 60


@contextmanager
def _process(*arguments: str, home: Path, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    environment = {**os.environ, "ROPEWALK_HOME": str(home), **variables}
    process = subprocess.Popen(
        [sys.executable, "-m", "api.cli", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _serving(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    url: str = json.loads(line)["url"]
    return url


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that the embedded PostgreSQL's account can reach; pytest closes its own directories to others."""
    with tempfile.TemporaryDirectory(prefix="ropewalk-test-") as directory:
        yield Path(directory)
        if (Path(directory) / "postgres" / "data" / "postmaster.pid").exists():  # left over by a test that failed
            with EmbeddedPostgres(Path(directory)):
                pass


def test_it_serves_with_an_embedded_database_and_stops_in_order(home: Path) -> None:
    with _process("serve", "--no-controller", "--port", str(free_port()), "--json", home=home) as process:
        url = _serving(process)
        assert httpx.get(f"{url}/readyz").status_code == 200
        body = {"model": "pocket", "target_length": 1024}
        assert httpx.get(f"{url}/v1/searches").status_code == 401
        operator = {"Authorization": f"Bearer {(home / 'token').read_text().strip()}"}
        job_id = httpx.post(f"{url}/v1/searches", json=body, headers=operator, timeout=60).json()["id"]
        headers = {"Accept": "text/event-stream", **operator}
        with httpx.stream("GET", f"{url}/v1/searches/{job_id}/events", headers=headers, timeout=30) as stream:
            next(stream.iter_lines())
            process.send_signal(signal.SIGTERM)  # an open stream does not hold the stop up
            out, err = process.communicate(timeout=STOP_SECONDS)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert out == ""
    assert not (home / "postgres" / "data" / "postmaster.pid").exists(), "PostgreSQL was stopped, cleanly"


def test_another_address_with_a_key_serves_until_ctrl_c(tmp_path: Path, database: Database) -> None:
    token = ApiKeys(database).create("someone", ["read"])
    arguments = ("serve", "--host", "0.0.0.0", "--port", str(free_port()), "--no-controller", "--json")
    with _process(*arguments, home=tmp_path, ROPEWALK_DATABASE_URL=database.url) as process:
        url = _serving(process)
        assert httpx.get(f"{url}/v1/searches").status_code == 401
        assert httpx.get(f"{url}/v1/searches", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=STOP_SECONDS)
    assert process.returncode == 0, err
    assert "Traceback" not in err


def test_a_port_that_is_taken_is_told_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with _process("serve", "--port", str(port), home=home) as process:
            out, err = process.communicate(timeout=STOP_SECONDS)
    assert process.returncode == 1
    assert out == ""
    assert err.count("\n") == 1
    assert f"127.0.0.1:{port}" in err
    assert "ROPEWALK_PORT" in err
    assert not (home / "postgres").exists()


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageNotWritable, match="ROPEWALK_HOME must be writable"):
        make_home(tmp_path / "file" / "home")
    with _process("serve", home=tmp_path / "file" / "home") as process:
        _, err = process.communicate(timeout=STOP_SECONDS)
    assert process.returncode == 1
    assert err.count("\n") == 1
    assert "ROPEWALK_HOME" in err


def test_another_address_without_a_key_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database_url: str
) -> None:
    monkeypatch.setenv("ROPEWALK_HOME", str(tmp_path))
    monkeypatch.setenv("ROPEWALK_DATABASE_URL", database_url)
    assert run(["serve", "--host", "0.0.0.0", "--port", str(free_port()), "--no-controller"]) == 2
    told = capsys.readouterr().err
    assert "ropewalk keys create" in told
    assert "host=0.0.0.0" in told


def test_bind_takes_the_port_and_gives_it_back() -> None:
    port = free_port()
    with closing(bind("127.0.0.1", port)), pytest.raises(PortTaken, match=str(port)):
        bind("127.0.0.1", port)
    bind("127.0.0.1", port).close()
    with pytest.raises(PortTaken, match=r"no\.such\.host"):
        bind("no.such.host.invalid", port)
