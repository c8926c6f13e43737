"""`GET /v1/models:inspect`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ropewalk.client.errors import ApiError
from service.inspection.making import inspect_model
from storage.postgres.database import Database
from tests.helpers.http_server import RunningServer, running_server
from tests.helpers.tiny_configs import config_of, saved

PATH = "/v1/models:inspect"


@pytest.fixture
def shared(database: Database, tmp_path: Path) -> Iterator[RunningServer]:
    """A server for others, which may read `root`."""
    (tmp_path / "root").mkdir()
    with running_server(database, host="0.0.0.0", roots=(tmp_path / "root",), home=tmp_path / "home") as running:
        yield running


def test_the_client_gets_what_the_command_line_shows(quiet_server: RunningServer) -> None:
    with quiet_server.client() as client:
        assert client.inspect_model("pocket") == inspect_model("pocket")
        shorter = client.inspect_model("pocket", target_length=512, original_length=128)
        assert shorter == inspect_model("pocket", target_length=512, original_length=128)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"model": "/no/such/model"}, "MODEL_NOT_FOUND"),
        ({"model": "/" + "a" * 300}, "MODEL_NOT_FOUND"),
        ({"model": "pocket", "target_length": "255"}, "INVALID_TARGET_LENGTH"),
        ({"model": "pocket", "original_length": "512"}, "INVALID_ORIGINAL_LENGTH"),
        ({}, "VALIDATION_FAILED"),
        ({"model": ""}, "VALIDATION_FAILED"),
        ({"model": "pocket", "target_length": "far"}, "VALIDATION_FAILED"),
        ({"model": "pocket", "surprise": "1"}, "VALIDATION_FAILED"),
    ],
)
def test_bad_input_is_422(quiet_server: RunningServer, params: dict[str, str], code: str) -> None:
    with quiet_server.http as http:
        response = http.get(PATH, params=params)
    assert response.status_code == 422, response.text
    problem = response.json()
    assert problem["code"] == code
    assert {error["location"] for error in problem.get("errors", [])} <= {"query"}


@pytest.mark.parametrize("model_type", ["internlm2", "gpt2"])
def test_what_cannot_be_extended_is_told(quiet_server: RunningServer, model_type: str, tmp_path: Path) -> None:
    model = saved(tmp_path, {**config_of("llama"), "model_type": model_type, "auto_map": {}})
    with quiet_server.client() as client, pytest.raises(ApiError) as refused:
        client.inspect_model(model)
    assert (refused.value.status, refused.value.code) == (422, "UNSUPPORTED_ROPE")
    assert "\n" not in refused.value.detail


def test_reading_is_enough_and_needed(shared: RunningServer) -> None:
    with shared.client(shared.keys.create("reader", ["read"])) as client:
        assert client.inspect_model("pocket").model == "pocket"
    with shared.client(shared.keys.create("worker", ["worker"])) as client, pytest.raises(ApiError) as refused:
        client.inspect_model("pocket")
    assert refused.value.code == "INSUFFICIENT_SCOPE"


def test_others_read_under_the_roots_only(shared: RunningServer, tmp_path: Path) -> None:
    inside, outside = tmp_path / "root" / "model", tmp_path / "outside"
    for directory in (inside, outside):
        directory.mkdir()
        saved(directory, config_of("llama"))
    with shared.client(shared.keys.create("reader", ["read"])) as client:
        assert client.inspect_model(str(inside)).model_type == "llama"
        with pytest.raises(ApiError) as refused:
            client.inspect_model(str(outside))
    assert refused.value.code == "PATH_NOT_ALLOWED"
    assert [(error.pointer, error.location) for error in refused.value.errors] == [("/model", "query")]
