"""Requests made up from the OpenAPI document: whatever is sent, the server answers as the document says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from storage.postgres.database import Database
from tests.helpers.http_server import RunningServer, add_trials, claimed_search, finish_search, running_server
from tests.helpers.postgres import create_database

EXAMPLES = 6  # per operation and mode
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def busy_server(postgres_url: str, template_database: str) -> Iterator[RunningServer]:
    """A server with a finished search, a running one, and jobs of the other kinds."""
    url = create_database(postgres_url, "schemathesis", template=template_database)
    with closing(Database(url)) as database, running_server(database) as server:
        for finished in (True, False):
            lease = claimed_search(server.jobs)
            add_trials(database, lease, scored=3)
            if finished:
                finish_search(server.jobs, lease)
        for kind in ("finetune", "evaluation"):
            server.jobs.create(kind, "{}")
        yield server


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_every_answer_is_as_documented(
    busy_server: RunningServer, mode: GenerationMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # models made up are looked for here only
    schema = schemathesis.openapi.from_url(f"{busy_server.url}/openapi.json")
    with busy_server.client() as client:
        ids = {
            "search_id": [job.id for job in client.jobs("search").items],
            "finetune_id": [job.id for job in client.jobs("finetune").items],
            "evaluation_id": [job.id for job in client.jobs("evaluation").items],
        }
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @seed(0)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Case[Any]) -> None:
            for name, known in ids.items():
                if name in case.path_parameters and len(str(case.path_parameters[name])) % 2:
                    case.path_parameters[name] = known[len(str(case.path_parameters[name])) % len(known)]
            case.call_and_validate(checks=CHECKS, timeout=60)

        with contextlib.suppress(Unsatisfiable):  # of operations that have nothing to get wrong
            check()
