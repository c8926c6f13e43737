"""What no client of ours would send: refused with the rule and the value, and soon."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evaluation.models.source import resolve_model
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.rope.published import PairFactors
from tests.helpers.http_server import POCKET_SPEC, ROPE, RunningServer

JSON = {"Content-Type": "application/json"}


def factor_file(**model: Any) -> dict[str, Any]:
    """Factors that scale nothing, for the pocket model unless `model` says otherwise."""
    identity: dict[str, Any] = {
        "name": "pocket",
        "sha256": None,
        "rope_theta": ROPE.rope_theta,
        "rotary_dim": ROPE.rotary_dim,
        "partial_rotary_factor": 1.0,
    }
    original = model.pop("original_max_position_embeddings", ROPE.original_max_position_embeddings)
    identity_factors = PairFactors((1.0,) * ROPE.num_pairs)
    file = FactorFile(
        model=ModelIdentity(**{**identity, **model}),
        original_max_position_embeddings=original,
        target_length=1024,
        critical_pair=None,
        attention_factor=1.0,
        short_factor=identity_factors,
        long_factor=identity_factors,
    )
    loaded: dict[str, Any] = json.loads(file.to_json())
    return loaded


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "evolution", "population": 10**9},
        {"name": "auto", "startup": 10**9},
        {"name": "auto", "batch": 10**9},
        {"name": "gradient", "steps": 10**9},
        {"name": "optuna", "sampler": "RandomSampler", "startup": 10**9, "candidates": 10**9},
    ],
)
def test_a_generation_that_no_memory_holds(quiet_server: RunningServer, strategy: dict[str, object]) -> None:
    with quiet_server.http as http:
        response = http.post("/v1/searches?validate_only=true", json={**POCKET_SPEC, "strategy": strategy})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "INVALID_STRATEGY")
    assert "must be at most" in problem["detail"]
    assert "1000000000" in problem["detail"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            b'{"model": "pocket", "target_length": 1024, "target_length": 512}',
            "once, but got 'target_length' twice",
        ),
        (b'{"model": "pocket", "target_length": NaN}', "finite numbers only, but got NaN"),
        (b'{"labels": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"target_length": ' + b"9" * 5_000 + b"}", "Exceeds the limit (4300 digits)"),
    ],
)
def test_json_that_a_lenient_parser_takes_or_breaks_on(quiet_server: RunningServer, body: bytes, reason: str) -> None:
    with quiet_server.http as http:
        response = http.post("/v1/searches", content=body, headers=JSON)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (400, "MALFORMED_REQUEST")
    assert reason in problem["detail"]


def test_a_broken_rule_is_told_with_the_value(quiet_server: RunningServer) -> None:
    with quiet_server.http as http:
        detail = http.post("/v1/searches", json={**POCKET_SPEC, "seed": -1, "wish": "x" * 500}).json()["detail"]
        query = http.get("/v1/searches?limit=0").json()["detail"]
    assert "/seed: must be at least 0, but got -1" in detail
    assert "/wish: there is no such field; there are model, " in detail
    assert len(detail) < 500
    assert query.endswith("but got '0'")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"sha256": "0" * 64}, "sha256 of the weights must be the model's"),
        ({"rope_theta": 5000.0}, "rope_theta must be the model's, 10000.0, but the factor file says 5000.0"),
        ({"original_max_position_embeddings": 512}, "must be at most the model's, 256, but the factor file says 512"),
    ],
)
def test_factors_of_another_model_are_not_evaluated(
    quiet_server: RunningServer, model: dict[str, object], words: str
) -> None:
    spec = {"model": "pocket", "documents": 2, "factors": factor_file(**model)}
    with quiet_server.http as http:
        problem = http.post("/v1/evaluations", json=spec).json()
        assert http.get("/v1/evaluations").json()["items"] == []
    assert problem["code"] == "FACTORS_DO_NOT_FIT"
    assert words in problem["detail"]


def test_an_evaluation_of_nothing_but_the_model_measures_the_model(quiet_server: RunningServer) -> None:
    from service.evaluations.prepare import prepare_evaluation
    from service.specs.evaluation import EvaluationSpec

    spec = EvaluationSpec(model="pocket", target_length=512, lengths=(256,), documents=2, baselines=False)
    prepared = prepare_evaluation(spec, quiet_server.jobs)
    assert [one.name for one in prepared.contenders] == ["none"]
    assert prepared.model.source == resolve_model("pocket")


@pytest.mark.parametrize(("path", "allowed"), [("/v1/searches", "GET, POST"), ("/healthz", "GET")])
def test_a_method_that_is_not_there_is_told_those_that_are(
    quiet_server: RunningServer, path: str, allowed: str
) -> None:
    with quiet_server.http as http:
        response = http.put(path)
    assert (response.status_code, response.headers["Allow"]) == (405, allowed)
