"""The files that jobs have left, over HTTP: listed, copied in pieces, checked, and nobody else's."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.cli import run
from ropewalk.client.asynchronous import AsyncClient
from ropewalk.client.errors import ApiError
from service.artifacts.store import CHUNK_BYTES, digested
from storage.artifacts import Artifacts
from storage.postgres.database import Database
from storage.records import Artifact
from tests.helpers.http_server import RunningServer, running_server

WEIGHTS = bytes(range(256)) * (5 * CHUNK_BYTES // 256) + b"and a rest"


@pytest.fixture
def server(database: Database) -> Iterator[RunningServer]:
    with running_server(database) as running:
        yield running


@pytest.fixture
def job_id(server: RunningServer) -> str:
    """A fine-tuning that has left two files."""
    server.jobs.create("finetune", "{}")
    claimed = server.jobs.claim("a", 600.0, ["finetune"])
    assert claimed is not None
    job, lease = claimed
    directory = server.home / "artifacts" / job.id / "checkpoint-1"
    directory.mkdir(parents=True)
    (directory / "model.safetensors").write_bytes(WEIGHTS)
    (directory / "a name.json").write_text("{}")
    files = []
    for path in directory.iterdir():
        size, sha256 = digested(path)
        key = f"{job.id}/checkpoint-1/{path.name}"
        files.append(Artifact(name=f"checkpoint/{path.name}", key=key, bytes=size, sha256=sha256))
    Artifacts(server.database).record(lease, files)
    return job.id


def test_files_are_listed_and_copied(server: RunningServer, job_id: str, tmp_path: Path) -> None:
    with server.http as http:
        listed = http.get(f"/v1/finetunes/{job_id}/files").json()["items"]
        assert [one["name"] for one in listed] == ["checkpoint/a name.json", "checkpoint/model.safetensors"]
        answer = http.get(f"/v1/finetunes/{job_id}/files/checkpoint/model.safetensors")
        assert answer.content == WEIGHTS
        sha256 = hashlib.sha256(WEIGHTS).hexdigest()
        assert (answer.headers["content-length"], answer.headers["etag"]) == (str(len(WEIGHTS)), f'"{sha256}"')
        assert answer.headers["content-disposition"] == 'attachment; filename="model.safetensors"'
    with server.client(server.token) as client:
        paths = client.download(job_id, tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in paths] == [one["name"] for one in listed]
    assert paths[1].read_bytes() == WEIGHTS

    async def again() -> list[Path]:
        async with AsyncClient(server.url, key=server.token) as client:
            return await client.download(job_id, tmp_path / "async")

    assert asyncio.run(again())[1].read_bytes() == WEIGHTS


def test_the_command_lists_and_copies(
    server: RunningServer,
    job_id: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROPEWALK_URL", server.url)
    assert run(["files", job_id, "--json"]) == 0
    assert [one["bytes"] for one in json.loads(capsys.readouterr().out)["items"]] == [2, len(WEIGHTS)]
    assert run(["files", job_id]) == 0
    assert "checkpoint/model.safetensors" in capsys.readouterr().out
    assert run(["files", job_id, "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "checkpoint" / "model.safetensors").read_bytes() == WEIGHTS
    (tmp_path / "file").write_text("")
    assert run(["files", job_id, "-o", str(tmp_path / "file")]) == 2
    assert "the output must be writable" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["nothing", "checkpoint", "checkpoint/../checkpoint/model.safetensors", "..%2f..%2ftoken", "/etc/passwd"]
)
def test_names_lead_nowhere_else(server: RunningServer, job_id: str, name: str) -> None:
    with server.http as http:
        answer = http.send(http.build_request("GET", f"{server.url}/v1/finetunes/{job_id}/files/{name}"))
    if ".." in name and "%" not in name:  # the client has made it another address
        return
    assert answer.status_code == 404, answer.text


def test_a_file_that_is_another_now_never_arrives_whole(server: RunningServer, job_id: str, tmp_path: Path) -> None:
    path = server.home / "artifacts" / job_id / "checkpoint-1" / "model.safetensors"
    path.write_bytes(WEIGHTS[:-1] + b"!")
    with server.http as http, pytest.raises(httpx.RemoteProtocolError):
        http.get(f"/v1/finetunes/{job_id}/files/checkpoint/model.safetensors")
    with server.client(server.token) as client, pytest.raises(Exception, match="server"):
        client.download(job_id, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*model*"))
    path.unlink()
    with server.client(server.token) as client, pytest.raises(ApiError, match="must be there, but is not"):
        client.download(job_id, tmp_path / "out")


def test_files_of_others_are_not_there(server: RunningServer, job_id: str) -> None:
    key = server.keys.create("bob", ["own"])
    headers = {"Authorization": f"Bearer {key}"}
    for path in ("files", "files/checkpoint/model.safetensors"):
        answer = httpx.get(f"{server.url}/v1/finetunes/{job_id}/{path}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "JOB_NOT_FOUND")
        assert httpx.get(f"{server.url}/v1/finetunes/{job_id}/{path}").status_code == 401
        assert httpx.get(f"{server.url}/v1/searches/{job_id}/{path}", headers=server.operator).status_code == 404
