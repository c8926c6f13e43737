"""The OpenAPI document: what generated clients stand on."""

import re
from typing import Any, get_args

import pytest

from ropewalk.wire.kinds import JOB_KINDS, KINDS, JobAction, JobKind
from tests.helpers.http_server import RunningServer

OPERATIONS = {
    "cancel_evaluation",
    "cancel_finetune",
    "cancel_search",
    "change_evaluation",
    "change_finetune",
    "change_search",
    "create_evaluation",
    "create_finetune",
    "create_search",
    "create_webhook",
    "delete_evaluation",
    "delete_finetune",
    "delete_search",
    "end_webhook",
    "get_evaluation",
    "get_evaluation_report",
    "get_factors",
    "get_finetune",
    "get_health",
    "get_metrics",
    "get_pictures",
    "get_readiness",
    "get_search",
    "get_webhook",
    "inspect_model",
    "list_audit",
    "list_deliveries",
    "get_evaluation_file",
    "list_evaluation_events",
    "list_evaluation_files",
    "list_evaluations",
    "get_finetune_file",
    "list_finetune_events",
    "list_finetune_files",
    "list_finetunes",
    "list_scores",
    "get_search_file",
    "list_search_events",
    "list_search_files",
    "list_searches",
    "list_trials",
    "list_webhooks",
    "pause_finetune",
    "pause_search",
    "plan_evaluation",
    "plan_finetune",
    "plan_search",
    "resume_finetune",
    "resume_search",
}


@pytest.fixture(scope="module")
def document(quiet_server: RunningServer) -> dict[str, Any]:
    with quiet_server.http as http:
        body: dict[str, Any] = http.get("/openapi.json").json()
    return body


def _operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_operations_are_these(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in _operations(document)]
    assert len(ids) == len(set(ids))
    assert set(ids) == OPERATIONS


def test_version_and_references(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    text = str(document)
    assert "HTTPValidationError" not in text
    for name in _references(document):
        assert name in document["components"]["schemas"], name


def test_a_factor_file_is_one_component(document: dict[str, Any]) -> None:
    assert str(document).count("'title': 'FactorFile'") == 1
    factors = document["components"]["schemas"]["SearchReport"]["properties"]["factors"]
    assert factors == {"$ref": "#/components/schemas/FactorFile"}


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"].rpartition("/")[2]} if isinstance(value.get("$ref"), str) else set()
        return found.union(*(_references(inner) for inner in value.values()))
    return set().union(*(_references(inner) for inner in value)) if isinstance(value, list) else set()


def test_creations_are_202_with_examples_and_headers(document: dict[str, Any]) -> None:
    for collection in ("searches", "finetunes", "evaluations"):
        create = document["paths"][f"/v1/{collection}"]["post"]
        assert {"Location", "Retry-After", "Idempotent-Replayed"} == set(create["responses"]["202"]["headers"])
        assert create["requestBody"]["content"]["application/json"]["examples"]
        assert "Idempotency-Key" in {parameter["name"] for parameter in create["parameters"]}


def test_errors_are_problem_documents(document: dict[str, Any]) -> None:
    for path, _, operation in _operations(document):
        for status, response in operation["responses"].items():
            if status.startswith(("4", "5")):
                assert list(response["content"]) == ["application/problem+json"], (path, status)


@pytest.mark.parametrize("kind", JOB_KINDS)
def test_every_kind_has_its_routes_and_the_actions_of_its_row(document: dict[str, Any], kind: JobKind) -> None:
    paths, row = document["paths"], KINDS[kind]
    one = f"/v1/{row.collection}/{{{kind}_id}}"
    assert {"post", "get"} == set(paths[f"/v1/{row.collection}"])
    assert {"get", "delete", "patch"} == set(paths[one])
    assert {"get"} == set(paths[f"{one}/events"])
    assert {action for action in get_args(JobAction) if f"{one}:{action}" in paths} == set(row.actions)


def test_examples_of_search_specs_are_valid(document: dict[str, Any], quiet_server: RunningServer) -> None:
    body = document["paths"]["/v1/searches"]["post"]["requestBody"]["content"]["application/json"]
    with quiet_server.http as http:
        for example in body["examples"].values():
            response = http.post("/v1/searches?validate_only=true", json=example["value"])
            assert response.status_code == 200, response.text


def test_the_docs_page_needs_no_other_host(quiet_server: RunningServer) -> None:
    with quiet_server.http as http:
        links = re.findall(r'(?:src|href)="([^"]+)"', http.get("/docs").text)
        assert links
        assert all(link.startswith("/") for link in links)
        assert all(http.get(link).status_code == 200 for link in links)
