"""`POST /v1/searches:plan` and its siblings."""

from __future__ import annotations

import pytest

from ropewalk.client.errors import ApiError
from tests.helpers.http_server import RunningServer

SPEC = {"model": "pocket", "target_length": 512}


@pytest.mark.parametrize(
    ("params", "location"),
    [
        ({"price_per_gpu_hour": "-1"}, "query"),
        ({"price_per_gpu_hour": "cheap"}, "query"),
        ({"price_per_gpu_hour": "nan"}, "query"),
        ({"gpu": "abacus"}, "query"),
        ({"gpus": "0"}, "query"),
        ({"surprise": "1"}, "query"),
    ],
)
def test_options_that_break_a_rule_are_422(quiet_server: RunningServer, params: dict[str, str], location: str) -> None:
    with quiet_server.http as http:
        response = http.post("/v1/searches:plan", json=SPEC, params=params)
    assert response.status_code == 422, response.text
    assert {error["location"] for error in response.json()["errors"]} == {location}


def test_every_kind_of_job_can_be_planned(quiet_server: RunningServer) -> None:
    with quiet_server.client() as client:
        assert [row.work for row in client.plan(SPEC, "evaluation").rows] == ["evaluation"]
        for code, kind, spec in (
            ("JOB_NOT_FOUND", "finetune", {"search_id": "srch_01jd8x6t4n0000000000000000"}),
            ("MODEL_NOT_FOUND", "search", {**SPEC, "model": "/no/such/model"}),
        ):
            with pytest.raises(ApiError) as refused:
                client.plan(spec, kind)  # type: ignore[arg-type]
            assert refused.value.code == code
