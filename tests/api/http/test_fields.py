"""Sentences about fields: what is wrong, with which value, and what was perhaps meant."""

from __future__ import annotations

import httpx
import pytest

from tests.helpers.http_server import POCKET_SPEC, RunningServer


def problem(answer: httpx.Response) -> dict[str, object]:
    assert answer.status_code == 422, answer.text
    found: dict[str, object] = answer.json()
    return found


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"target_lenght": 1024}, "/target_lenght: there is no such field; did you mean 'target_length'?"),
        ({"objective": {"document": 3}}, "/objective/document: there is no such field; did you mean 'documents'?"),
        (
            {"objective": {"skipped": {"gap": 2}}},
            "/objective/skipped/gap: there is no such field; did you mean 'gaps'?",
        ),
        ({"budget": {"maxTokens": 3}}, "/budget/maxTokens: there is no such field; did you mean 'max_tokens'?"),
        ({"finetune": {"stepz": 3}}, "/finetune/stepz: there is no such field; did you mean 'steps'?"),
        ({"strategy": {"name": "auto", "start_up": 3}}, "but got 'start_up'; did you mean 'startup'?"),
        ({"strategy": {"name": "autos"}}, "but got 'autos'; did you mean 'auto'?"),
        ({"xyzzy": 1}, "/xyzzy: there is no such field; there are model, target_length, "),
    ],
)
def test_a_misspelt_field_is_told_what_it_was_perhaps_meant_to_be(
    quiet_server: RunningServer, change: dict[str, object], sentence: str
) -> None:
    with quiet_server.http as http:
        found = problem(http.post("/v1/searches", json={**POCKET_SPEC, **change}))
    assert sentence in str(found["detail"])
    assert "Extra inputs" not in str(found)


def test_two_alternatives_of_one_field_are_one_sentence(quiet_server: RunningServer) -> None:
    spec = {**POCKET_SPEC, "scorer": {"attention_factor": "serch"}}
    with quiet_server.http as http:
        found = problem(http.post("/v1/searches", json=spec))
    errors = found["errors"]
    assert isinstance(errors, list)
    assert [one["pointer"] for one in errors] == ["/scorer/attention_factor"]
    assert "must be a number" in errors[0]["detail"]
    assert "'search', but got 'serch'" in errors[0]["detail"]


@pytest.mark.parametrize(
    ("method", "path", "sentence"),
    [
        ("POST", "/v1/searches?validateonly=true", "/validateonly: there is no such query parameter; did you mean"),
        ("GET", "/v1/searches?pagetoken=x", "did you mean 'page_token'?"),
        ("GET", "/v1/models:inspect?modell=pocket", "did you mean 'model'?"),
        ("GET", "/healthz?verbose=1", "/verbose: there is no such query parameter; there are none"),
    ],
)
def test_a_query_parameter_that_there_is_not_is_refused(
    quiet_server: RunningServer, method: str, path: str, sentence: str
) -> None:
    with quiet_server.http as http:
        found = problem(http.request(method, path, json=POCKET_SPEC if method == "POST" else None))
        assert http.get("/v1/searches").json()["items"] == []
    assert sentence in str(found["detail"])
