"""Results that were stored before there were models of them are read, written and served as they are."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from api.wire.jobs import job_resource
from ropewalk.wire.jobs import REPORTS, JobResource
from ropewalk.wire.kinds import JOB_KINDS, KINDS, JobKind, JobState
from ropewalk.wire.reports import FinalistRow, SearchReport
from storage.records import Job, Progress
from tests.helpers.http_server import factor_file

#: As a search, a fine-tuning of its factors and an evaluation of both left them in the jobs table.
STORED = Path(__file__).with_name("stored_results")
AT = datetime(2026, 1, 5, 12, tzinfo=UTC)


def _stored(kind: JobKind) -> str:
    return (STORED / f"{kind}.json").read_text().rstrip("\n")


def _ended(kind: JobKind, result_json: str) -> Job:
    return Job(
        id=f"{KINDS[kind].prefix}_01jd8x6t4n0000000000000000",
        kind=kind,
        state=JobState.succeeded,
        spec_json="{}",
        labels=(),
        parent_id=None,
        request="none",
        progress=Progress(),
        result_json=result_json,
        error_code=None,
        error_message=None,
        created_at=AT,
        updated_at=AT,
        started_at=AT,
        finished_at=AT,
        lease_owner=None,
        lease_epoch=1,
        lease_expires_at=None,
        version=7,
    )


@pytest.mark.parametrize("kind", JOB_KINDS)
def test_what_is_stored_is_written_back_to_the_last_character(kind: JobKind) -> None:
    assert REPORTS[kind].from_json(_stored(kind)).to_json() == _stored(kind)


@pytest.mark.parametrize("kind", JOB_KINDS)
def test_what_is_stored_is_served_and_understood(kind: JobKind) -> None:
    served = job_resource(_ended(kind, _stored(kind))).model_dump_json()
    assert json.dumps(json.loads(served)["result"]) == _stored(kind)
    understood = JobResource.model_validate_json(served)
    assert understood.report(REPORTS[kind]).to_json() == _stored(kind)


@pytest.mark.parametrize(
    ("kind", "absent"),
    [
        ("search", ("comparison", "finalists")),
        (
            "finetune",
            tuple(f"{when}_loss_{kind}" for kind in ("middle", "short", "skipped") for when in ("initial", "final")),
        ),
        ("evaluation", ("threshold", "ruler", "effective_lengths", "text", "harness", "retention")),
    ],
)
def test_fields_that_came_later_may_be_absent_and_later_ones_are_passed_over(
    kind: JobKind, absent: tuple[str, ...]
) -> None:
    value: dict[str, Any] = json.loads(_stored(kind))
    kept = {name: one for name, one in value.items() if name not in absent}
    report = REPORTS[kind].from_json(json.dumps({**kept, "of_the_future": 1}))
    written = json.loads(report.to_json())
    assert {name: written[name] for name in kept} == kept
    assert set(written) == set(value)


def test_a_perplexity_beyond_what_json_can_say_is_the_largest_number() -> None:
    row = FinalistRow(
        trial=0,
        name="none",
        origin="baseline:none",
        critical_pair=None,
        attention_factor=1.0,
        long_factor=(1.0,),
        search_nll=800.0,
        nll=800.0,
        nll_standard_error=None,
        perplexity=math.inf,
        exact_match=0.0,
        documents=1,
    )
    report = SearchReport(verdict="is_best_baseline", statement="none", factors=factor_file(), finalists=(row,))
    assert SearchReport.from_json(report.to_json()).finalists[0].perplexity == sys.float_info.max


def test_clients_read_results_without_database_cluster_and_models() -> None:
    heavy = ("sqlalchemy", "psycopg", "optuna", "ray", "torch", "transformers", "fastapi")
    code = f"import sys, ropewalk.client.sync; print([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


def test_the_schema_of_results_has_every_field_of_a_factor_file() -> None:
    fields = SearchReport.model_json_schema(mode="serialization")["properties"]["factors"]["properties"]
    assert [name for name in fields if name != "config"] == list(json.loads(factor_file().to_json()))
    assert fields["model"]["properties"]["rope_theta"] == {"type": "number", "exclusiveMinimum": 1}
