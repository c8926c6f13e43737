"""Two versions at once, while processes are replaced: what a newer one writes does no harm to an older one."""

from __future__ import annotations

import json
from pathlib import Path

import sqlalchemy as sa

from ropewalk.wire.kinds import JobState
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import Progress
from tests.helpers.controllers import SOON, search_spec, submit
from tests.helpers.http_server import claimed_search, running_server
from tests.helpers.searches import controller
from tests.helpers.studies import WholeStudy, whole_study
from tests.helpers.waiting import wait_until

NEWER = (
    "ALTER TABLE ropewalk.jobs ADD COLUMN colour text NOT NULL DEFAULT 'red'",
    "ALTER TABLE ropewalk.document_scores ADD COLUMN colour text NOT NULL DEFAULT 'red'",
    "ALTER TABLE ropewalk.events ADD COLUMN colour text",
    "CREATE TABLE ropewalk.colours (name text PRIMARY KEY)",
    "UPDATE ropewalk.alembic_version SET version_num = '9999'",
)
COLOURFUL = {"status": True, "reason": "Red", "message": "", "changed_at": "2031-01-01T00:00:00+00:00"}
NEWER_ROW = f"""
    UPDATE ropewalk.jobs SET progress = progress || '{json.dumps({"colour": "red"})}',
        conditions = conditions || '{json.dumps({"Colourful": COLOURFUL})}'
"""


def execute(database: Database, *statements: str) -> None:
    with database.transaction() as connection:
        for statement in statements:
            connection.execute(sa.text(statement.replace(":", "\\:")))


def test_a_row_of_a_newer_version_is_read_and_written(database: Database) -> None:
    jobs = JobStore(database)
    lease = claimed_search(jobs)
    jobs.update_progress(lease, Progress(trials=3))
    execute(database, NEWER_ROW)
    job = jobs.get(lease.job_id)
    assert job.progress == Progress(trials=3)
    assert {one.type for one in job.conditions} == {"DatabaseReachable", "Progressing"}
    with running_server(database) as server, server.http as http:
        assert http.get(f"/v1/searches/{lease.job_id}").json()["progress"]["trials"] == 3
        assert len(http.get("/v1/searches").json()["items"]) == 1
    assert jobs.transition(lease, JobState.validating).state is JobState.validating


def test_an_old_process_goes_on_with_a_newer_schema(
    database: Database, undisturbed: WholeStudy, tmp_path: Path
) -> None:
    search_id = submit(database)
    execute(database, *NEWER)
    jobs = JobStore(database)
    with running_server(database) as server, server.http as http, controller(database, tmp_path):
        ready = http.get("/readyz")
        assert (ready.status_code, "ropewalk=9999" in ready.json()["detail"]) == (503, True)
        wait_until(lambda: jobs.get(search_id).state.is_final)
        assert http.get(f"/v1/searches/{search_id}").json()["state"] == "succeeded"
    assert whole_study(database, search_id) == undisturbed


def test_a_spec_of_a_newer_version_waits_for_a_controller_that_knows_it(database: Database, tmp_path: Path) -> None:
    jobs = JobStore(database)
    job_id = jobs.create("search", json.dumps(search_spec(colour="red"))).job.id
    with controller(database, tmp_path, retry=SOON):
        wait_until(lambda: jobs.get(job_id).failures > 0)
        (condition,) = [one for one in jobs.get(job_id).conditions if one.reason == "UnknownSpec"]
        assert "colour: Extra inputs are not permitted" in condition.message
        wait_until(lambda: jobs.get(job_id).state is JobState.paused)
    assert jobs.get(job_id).error_code is None
