"""A server of another version: what can be read is read, and what cannot is said in one sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ropewalk.client.errors import ApiError, IncompatibleServer
from ropewalk.client.sync import Client
from ropewalk.version import ROPEWALK_VERSION
from ropewalk.wire.problems import VERSION_HEADER
from ropewalk.wire.reports import SearchReport
from tests.helpers.factor_files import FULL
from tests.helpers.odd_server import odd_server

NEWER = {VERSION_HEADER: "99.0.0"}
JOB: dict[str, Any] = {
    "id": "srch_1",
    "kind": "search",
    "state": "succeeded",
    "request": "none",
    "labels": {},
    "parent_id": None,
    "spec": {},
    "progress": {},
    "error": None,
    "created_at": "2026-01-05T12:00:00Z",
    "updated_at": "2026-01-05T12:00:00Z",
    "started_at": None,
    "finished_at": None,
}


def _factors() -> dict[str, Any]:
    file: dict[str, Any] = json.loads(FULL.to_json())
    return file


def test_fields_of_a_newer_server_are_ignored() -> None:
    file = _factors()
    newer = {**file, "mood": 1, "model": {**file["model"], "colour": "red"}}
    newer["baselines"] = {"pi": {"nll": 1.0, "exact_match": 0.5, "speed": 3}}
    result = {"statement": "so", "verdict": "is_best_baseline", "factors": newer, "mood": "good"}
    body = json.dumps({**JOB, "result": result, "colour": "blue", "progress": {"hue": 3}})
    with odd_server(body, headers=NEWER) as url, Client(url) as client:
        job = client.get("srch_1")
        assert client.server_version == "99.0.0"
    found = job.report(SearchReport).factors
    assert found.model == FULL.model
    assert [one.name for one in found.baselines] == ["pi"]


def test_factors_of_a_newer_server_are_read() -> None:
    newer = json.dumps({**json.loads(FULL.to_json()), "mood": 1})
    with odd_server(newer, headers=NEWER) as url, Client(url) as client:
        assert client.factors("srch_1").file == FULL
    with (
        odd_server("{}", headers=NEWER) as url,
        Client(url) as client,
        pytest.raises(IncompatibleServer, match="newer"),
    ):
        client.factors("srch_1")


@pytest.mark.parametrize(
    ("version", "age"), [("99.0.0", "newer"), ("0.0.9", "older")], ids=["a newer server", "an older one"]
)
def test_an_answer_that_cannot_be_read_names_both_versions(version: str, age: str) -> None:
    body = json.dumps({**JOB, "state": "levitating", "result": None})
    with (
        odd_server(body, headers={VERSION_HEADER: version}) as url,
        Client(url) as client,
        pytest.raises(IncompatibleServer) as refused,
    ):
        client.get("srch_1")
    told = str(refused.value)
    assert told.startswith(f"the server at {url} is Ropewalk {version}, {age} than this client, {ROPEWALK_VERSION}")
    assert "\n" not in told


def test_a_route_that_the_server_does_not_have_names_both_versions() -> None:
    problem = {
        "type": "x",
        "title": "x",
        "status": 404,
        "detail": "no route",
        "instance": "/",
        "code": "NOT_FOUND",
    }
    with (
        odd_server(json.dumps(problem), status=404, headers=NEWER) as url,
        Client(url) as client,
        pytest.raises(ApiError, match=rf"no route \(the server at {url} is Ropewalk 99.0.0, newer") as refused,
    ):
        client.pictures("srch_1")
    assert refused.value.code == "NOT_FOUND"


def test_what_is_no_ropewalk_server_is_said_to_be_none() -> None:
    with (
        odd_server("<html>hello</html>") as url,
        Client(url) as client,
        pytest.raises(IncompatibleServer, match="the URL must be a Ropewalk server's"),
    ):
        client.get("srch_1")
