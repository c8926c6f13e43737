"""What is wrong with a request is told as a problem document, and nothing is created."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.http.middleware import MAX_BODY_BYTES
from tests.helpers.http_server import POCKET_SPEC, RunningServer, factor_file

PROBLEM = "application/problem+json"
TOO_LONG = "/" + "a" * 300  # longer than a name in a file system may be


def _problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"].startswith("urn:ropewalk:problem:")
    assert problem["title"]
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return problem


def test_malformed_json(quiet_server: RunningServer) -> None:
    with quiet_server.http as http:
        response = http.post("/v1/searches", content=b'{"model": ', headers={"content-type": "application/json"})
    assert "not JSON" in _problem(response, 400, "MALFORMED_REQUEST")["detail"]


def test_another_media_type(quiet_server: RunningServer) -> None:
    with quiet_server.http as http:
        response = http.post("/v1/searches", data={"model": "pocket"})
    assert "application/json" in _problem(response, 415, "UNSUPPORTED_MEDIA_TYPE")["detail"]


@pytest.mark.parametrize("length_is_told", [True, False])
def test_too_large_a_body(quiet_server: RunningServer, length_is_told: bool) -> None:
    def chunks() -> Any:
        for _ in range(MAX_BODY_BYTES // 2**20 + 1):
            yield b" " * 2**20

    content = b" " * (MAX_BODY_BYTES + 1) if length_is_told else chunks()
    with quiet_server.http as http:
        response = http.post("/v1/searches", content=content, headers={"content-type": "application/json"})
    _problem(response, 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"budget": {"max_trials": -1}}, "/budget/max_trials"),
        ({"budget": {"max_document_passes": 0}}, "/budget/max_document_passes"),
        ({"target_length": 0}, "/target_length"),
        ({"target_length": "far"}, "/target_length"),
        ({"surprise": 1}, "/surprise"),
        ({"objective": {"surprise": 1}}, "/objective/surprise"),
        ({"scorer": {"attention_factor": "sometimes"}}, "/scorer/attention_factor"),
        ({"scorer": {"backend": "abacus"}}, "/scorer/backend"),
        ({"labels": {"a/b": ""}}, "/labels/a~1b"),
        ({"model": None}, "/model"),
        ({"labels": {"team": "a\x00b"}}, ""),
    ],
)
def test_a_field_that_breaks_a_rule_is_pointed_at(
    quiet_server: RunningServer, change: dict[str, object], pointer: str
) -> None:
    with quiet_server.http as http:
        problem = _problem(http.post("/v1/searches", json={**POCKET_SPEC, **change}), 422, "VALIDATION_FAILED")
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert {error["location"] for error in problem["errors"]} == {"body"}


def test_a_missing_field_is_pointed_at(quiet_server: RunningServer) -> None:
    with quiet_server.http as http:
        problem = _problem(http.post("/v1/searches", json={"model": "pocket"}), 422, "VALIDATION_FAILED")
    assert [error["pointer"] for error in problem["errors"]] == ["/target_length"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model": "/no/such/model"}, "MODEL_NOT_FOUND"),
        ({"model": TOO_LONG}, "MODEL_NOT_FOUND"),
        ({"target_length": 128}, "INVALID_DOCUMENT_REQUEST"),
        ({"target_length": 256}, "INVALID_SPEC"),
        ({"original_length": 512}, "INVALID_SPEC"),
        ({"strategy": {"name": "wishing"}}, "INVALID_STRATEGY"),
        ({"strategy": {"name": "evolution", "wishes": 3}}, "INVALID_STRATEGY"),
        ({"objective": {"corpus": "/no/such/corpus.txt"}}, "CORPUS_NOT_FOUND"),
        ({"objective": {"corpus": TOO_LONG}}, "CORPUS_NOT_FOUND"),
        ({"objective": {"needles_per_document": 64}}, "INVALID_DOCUMENT_REQUEST"),
        ({"scorer": {"backend": "vllm"}}, "SCORER_UNAVAILABLE"),
    ],
)
def test_what_the_service_refuses(quiet_server: RunningServer, change: dict[str, object], code: str) -> None:
    with quiet_server.http as http:
        for query in ("", "?validate_only=true"):
            problem = _problem(http.post(f"/v1/searches{query}", json={**POCKET_SPEC, **change}), 422, code)
        assert problem["detail"]
        assert http.get("/v1/searches").json()["items"] == []


def test_an_original_length_above_the_models_is_pointed_at(quiet_server: RunningServer) -> None:
    with quiet_server.http as http:
        for query in ("", "?validate_only=true"):
            response = http.post(f"/v1/searches{query}", json={**POCKET_SPEC, "original_length": 512})
            problem = _problem(response, 422, "INVALID_SPEC")
            assert [error["pointer"] for error in problem["errors"]] == ["/original_length"]
            assert "256" in problem["detail"]
            assert "original_length=512" in problem["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/finetunes", {}),
        ("/v1/finetunes", {"search_id": "srch_x", "factors": {}}),
        ("/v1/evaluations", {"model": "pocket"}),
        ("/v1/evaluations", {"target_length": 1024, "documents": 0}),
    ],
)
def test_finetunes_and_evaluations_are_checked_too(
    quiet_server: RunningServer, path: str, body: dict[str, object]
) -> None:
    with quiet_server.http as http:
        _problem(http.post(path, json=body), 422, "VALIDATION_FAILED")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"checkpoint": TOO_LONG}, "INVALID_SPEC"),
        ({"harness": ["own"], "harness_path": TOO_LONG}, "SCORER_UNAVAILABLE"),
    ],
)
def test_a_name_that_no_file_can_have(quiet_server: RunningServer, change: dict[str, object], code: str) -> None:
    with quiet_server.http as http:
        _problem(http.post("/v1/evaluations", json={"target_length": 1024, **change}), 422, code)


def test_a_checkpoint_whose_factors_are_no_text(quiet_server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "factors.json").write_bytes(b"\xff")
    with quiet_server.http as http:
        problem = _problem(http.post("/v1/evaluations", json={"checkpoint": str(tmp_path)}), 422, "INVALID_SPEC")
    assert "must hold a readable factors.json" in problem["detail"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"format": "x"}, "/factors/format"),
        ({"model": {"name": "pocket", "rotary_dim": 32}}, "/factors/model/rope_theta"),
        ({"long_factor": [1.0, "two"]}, "/factors/long_factor/1"),
        ({"target_length": 128}, "/factors/target_length"),
        ({"baselines": {"a/b": {"nll": 0.1}}}, "/factors/baselines/a~1b/exact_match"),
    ],
)
def test_a_factor_file_that_breaks_a_rule(quiet_server: RunningServer, change: dict[str, object], pointer: str) -> None:
    factors = {**json.loads(factor_file().to_json()), **change}
    with quiet_server.http as http:
        for path in ("/v1/finetunes", "/v1/evaluations"):
            problem = _problem(http.post(path, json={"factors": factors}), 422, "INVALID_SPEC")
            assert [error["pointer"] for error in problem["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "NOT_FOUND"),
        ("GET", "/nothing", 404, "NOT_FOUND"),
        ("DELETE", "/v1/searches", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/healthz", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/searches/srch_none", 404, "JOB_NOT_FOUND"),
        ("GET", "/v1/searches/srch_none/trials", 404, "JOB_NOT_FOUND"),
        ("GET", "/v1/searches/srch_none/scores", 404, "JOB_NOT_FOUND"),
        ("GET", "/v1/searches/srch_none/events", 404, "JOB_NOT_FOUND"),
        ("GET", "/v1/searches/srch_none/factors", 404, "JOB_NOT_FOUND"),
        ("POST", "/v1/searches/srch_none:cancel", 404, "JOB_NOT_FOUND"),
        ("GET", "/v1/searches?limit=0", 422, "VALIDATION_FAILED"),
        ("GET", "/v1/searches?state=dreaming", 422, "VALIDATION_FAILED"),
        ("GET", "/v1/searches?label=nonsense", 400, "MALFORMED_REQUEST"),
        ("GET", "/v1/searches?page_token=nonsense", 400, "INVALID_PAGE_TOKEN"),
        ("GET", "/v1/searches/x%00y", 400, "MALFORMED_REQUEST"),
        ("GET", "/v1/searches?label=a%3D%00", 400, "MALFORMED_REQUEST"),
    ],
)
def test_addresses_and_queries(quiet_server: RunningServer, method: str, path: str, status: int, code: str) -> None:
    with quiet_server.http as http:
        _problem(http.request(method, path), status, code)


def test_a_query_that_breaks_a_rule_says_where(quiet_server: RunningServer) -> None:
    with quiet_server.http as http:
        problem = _problem(http.get("/v1/searches?limit=0"), 422, "VALIDATION_FAILED")
    assert [(error["location"], error["pointer"]) for error in problem["errors"]] == [("query", "/limit")]


def test_what_nobody_expected_is_a_problem_without_traceback(
    quiet_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr("service.door.Door.jobs", explode)
    with quiet_server.http as http:
        response = http.get("/v1/searches")
    _problem(response, 500, "INTERNAL_ERROR")
    assert "hunter2" not in response.text


def test_a_request_id_is_taken_over_or_replaced(quiet_server: RunningServer) -> None:
    with quiet_server.http as http:
        assert http.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
        assert http.get("/healthz", headers={"X-Request-ID": "a b\tc"}).headers["x-request-id"] != "a b\tc"


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("events?after=99999999999999999999", {}, 422),
        ("events", {"Last-Event-ID": "9" * 20}, 400),
        ("events", {"Last-Event-ID": b"\xb2"}, 400),
        ("trials?after=99999999999", {}, 422),
        ("scores?trial=99999999999", {}, 422),
    ],
)
def test_numbers_that_no_column_holds(
    quiet_server: RunningServer, query: str, headers: dict[str, Any], status: int
) -> None:
    with quiet_server.http as http:
        assert http.get(f"/v1/searches/srch_none/{query}", headers=headers).status_code == status
