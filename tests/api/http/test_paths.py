"""Over REST: what a spec may make the server read, for the operator and for others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.postgres.database import Database
from tests.helpers.http_server import POCKET_SPEC, RunningServer, factor_file, running_server

FACTORS = factor_file().to_json()


@pytest.fixture
def shared(database: Database, tmp_path: Path) -> Iterator[tuple[RunningServer, dict[str, str]]]:
    """A server for others, which may read `root`, and the header of a key that may submit."""
    (tmp_path / "root").mkdir()
    with running_server(database, host="0.0.0.0", roots=(tmp_path / "root",), home=tmp_path / "home") as running:
        yield running, {"Authorization": f"Bearer {running.keys.create('someone', ['submit'])}"}


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/v1/searches", {**POCKET_SPEC, "model": "/etc"}, "/model"),
        (
            "/v1/searches?validate_only=true",
            {**POCKET_SPEC, "objective": {"corpus": "/etc/x.txt"}},
            "/objective/corpus",
        ),
        ("/v1/finetunes", {"search_id": "srch_x", "settings": {"corpus": "/etc/x.txt"}}, "/settings/corpus"),
        ("/v1/evaluations", {"target_length": 1024, "corpus": "/etc/x.txt"}, "/corpus"),
    ],
)
def test_others_read_under_the_roots_only(
    shared: tuple[RunningServer, dict[str, str]], path: str, body: dict[str, Any], pointer: str
) -> None:
    server, headers = shared
    with server.http as http:
        response = http.post(path, json=body, headers=headers)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "PATH_NOT_ALLOWED")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


def test_a_path_under_a_root_goes_on_to_be_looked_at(
    shared: tuple[RunningServer, dict[str, str]], tmp_path: Path
) -> None:
    server, headers = shared
    checkpoints = tmp_path / "home" / "artifacts"
    with server.http as http:
        for directory in (tmp_path / "root" / "model", checkpoints / "ft_1" / "checkpoint"):
            refused = http.post("/v1/searches", json={**POCKET_SPEC, "model": str(directory)}, headers=headers)
            assert refused.json()["code"] == "MODEL_NOT_FOUND"


def test_the_operator_of_a_loopback_server_reads_every_path(server: RunningServer) -> None:
    with server.http as http:
        refused = http.post("/v1/searches", json={**POCKET_SPEC, "model": "/no/such/model"})
        assert refused.json()["code"] == "MODEL_NOT_FOUND"


def test_a_hub_id_is_never_a_directory_of_the_server(
    shared: tuple[RunningServer, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, headers = shared
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "private" / "model").mkdir(parents=True)
    with server.http as http:
        refused = http.post("/v1/searches", json={**POCKET_SPEC, "model": "private/model"}, headers=headers)
    assert refused.json()["code"] == "MODEL_NOT_FOUND"
    assert "not in the local Hugging Face cache" in refused.json()["detail"]
