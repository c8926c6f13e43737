"""Over REST: what each bad request is told, word for word. The table is to be read as its sender would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.http_server import POCKET_SPEC, RunningServer, factor_file

ROWS = yaml.safe_load((Path(__file__).parent / "rest.yaml").read_text())


def _body(row: dict[str, Any]) -> object:
    body = row["body"]
    if not isinstance(body, dict):
        return body
    factors = body.get("factors")
    if isinstance(factors, dict) and "changed" in factors:
        body = {**body, "factors": {**json.loads(factor_file().to_json()), **factors["changed"]}}
    return {**POCKET_SPEC, **body} if row["of"] == "small" else body


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['send']} {row['body']}" for row in ROWS])
def test_what_is_said(quiet_server: RunningServer, row: dict[str, Any]) -> None:
    method, path = row["send"].split(" ")
    with quiet_server.http as http:
        sent: dict[str, Any] = {} if row["body"] is None else {"json": _body(row)}
        response = http.request(method, path, **sent)
    assert (response.status_code, response.json()["detail"]) == (row["status"], row["says"])


@pytest.mark.parametrize("row", [row for row in ROWS if row["status"] == 422 and row["send"].startswith("POST")])
def test_what_is_wrong_with_a_spec_points_at_a_field_that_was_sent(
    quiet_server: RunningServer, row: dict[str, Any]
) -> None:
    body = _body(row)
    with quiet_server.http as http:
        problems = http.post(row["send"].split(" ")[1], json=body).json()["errors"]
    assert problems or not isinstance(body, dict), row["says"]
    for problem in problems:
        first = problem["pointer"].split("/")[1:2]
        if isinstance(body, dict) and first and "must be given" not in problem["detail"] and "?" not in row["send"]:
            assert first[0].replace("~1", "/") in {**body, "lengths": None}, row["says"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"budget": {"max_tokens": 10}}, "/budget/max_tokens"),
        ({"budget": {"max_document_passes": 3}}, "/budget/max_document_passes"),
        ({"target_length": 100}, "/target_length"),
        ({"objective": {"corpus": "/nowhere.txt"}}, "/objective/corpus"),
        ({"finetune": {"corpus": "/nowhere.txt"}}, "/finetune/corpus"),
        ({"finetune": {"lora_rank": 1, "sharding": "fsdp"}}, "/finetune"),
        ({"finetune": {"rows_per_pass": 0}}, "/finetune/rows_per_pass"),
    ],
)
def test_the_field_is_the_one_that_is_wrong(quiet_server: RunningServer, body: dict[str, Any], pointer: str) -> None:
    with quiet_server.http as http:
        problem = http.post("/v1/searches?validate_only=true", json={**POCKET_SPEC, **body}).json()
    assert [one["pointer"] for one in problem["errors"]] == [pointer], problem["detail"]


def test_a_wrong_key_is_refused_where_there_are_no_keys(quiet_server: RunningServer) -> None:
    with quiet_server.stranger as http:
        refused = http.get("/v1/searches", headers={"Authorization": "Bearer rw_wrong"})
    assert refused.status_code == 401
    assert refused.json()["detail"] == "the API key is unknown or was revoked; clients take it from ROPEWALK_API_KEY"


def test_lengths_beyond_the_factors_are_told(quiet_server: RunningServer) -> None:
    with quiet_server.http as http:
        job = http.post("/v1/evaluations", json={**POCKET_SPEC, "lengths": [1024, 2048], "documents": 2}).json()
    assert job["warnings"] == [
        "lengths=2048 lie beyond the target length 1024, for which factors were found: they are measured with those "
        "factors, and a search for the longest of them would find others"
    ]
