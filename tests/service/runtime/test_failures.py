"""What fails under a search and what becomes of it: another attempt, a pause with the reason, or a clear end."""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ropewalk.wire.kinds import JobState
from service.door import Door
from service.runtime.failures import RetryPolicy
from service.runtime.job import OpenPool
from service.specs.search import SearchSpec
from storage.embedded.server import EmbeddedPostgres
from storage.postgres import outages
from storage.postgres.database import Database
from storage.postgres.upgrading import upgrade
from storage.records import Job
from tests.helpers.controllers import SOON, search_spec, submit
from tests.helpers.pools import LocalPool
from tests.helpers.postgres import fast_directory
from tests.helpers.searches import controller, forget_scores, run_to_end
from tests.helpers.studies import WholeStudy, whole_study
from tests.helpers.waiting import wait_until
from workers.base import ScorerSettings, ScoringTask
from workers.errors import WorkerLost

EVOLUTION: dict[str, Any] = search_spec(
    strategy={"name": "evolution", "population": 4, "iterations": 1, "parents": 2, "mutations": 2, "crossovers": 0}
)
DOCUMENTS = EVOLUTION["objective"]["documents"]


def raising(error: Exception, *, at: Callable[[int], bool]) -> OpenPool:
    """Pools that raise instead of scoring the tasks for whose number, over all pools, `at` holds."""
    count = 0

    def fail(_: ScoringTask) -> bool:
        nonlocal count
        count += 1
        if at(count):
            raise error
        return False

    return lambda settings, workers: LocalPool(settings, refuse=fail)


def submitted(database: Database, **changes: Any) -> str:
    return Door(database).submissions.submit_search(SearchSpec.model_validate(EVOLUTION | changes)).job.id


def job_of(database: Database, search_id: str) -> Job:
    return Door(database).job("search", search_id)


def events(database: Database, search_id: str, type: str) -> list[dict[str, Any]]:
    return [json.loads(event.data_json) for event in Door(database).events("search", search_id) if event.type == type]


def test_lost_workers_are_retried_and_nothing_changes(database: Database, tmp_path: Path) -> None:
    undisturbed = run_to_end(database, tmp_path, EVOLUTION)
    forget_scores(database)
    search_id = submitted(database)
    lost = raising(WorkerLost("all of them died"), at=lambda task: task % 20 == 0)
    with controller(database, tmp_path, lost, retry=SOON):
        wait_until(lambda: job_of(database, search_id).state.is_final)
    assert whole_study(database, search_id) == whole_study(database, undisturbed.id)
    failures = events(database, search_id, "infrastructure.failed")
    assert len(failures) > 2
    assert {failure["failures"] for failure in failures} == {1}, "scores were accepted in between"
    assert "all of them died" in failures[0]["message"]


@pytest.mark.parametrize("error", [WorkerLost("it died"), OSError("no space left on device")])
def test_what_never_works_is_paused_with_the_reason_and_can_be_resumed(
    error: Exception, database: Database, tmp_path: Path
) -> None:
    search_id = submitted(database)
    healthy = False
    pools = raising(error, at=lambda task: not healthy)
    with controller(database, tmp_path, pools, retry=RetryPolicy(attempts=3, first_pause_seconds=0.05)):
        wait_until(lambda: job_of(database, search_id).state is JobState.paused)
        paused = job_of(database, search_id)
        assert paused.failures == 3
        (condition,) = paused.conditions
        assert (condition.status, condition.reason) == (False, type(error).__name__)
        assert condition.message == f"failure 3 in a row, paused until it is resumed: {error}"
        assert [one["failures"] for one in events(database, search_id, "infrastructure.failed")] == [1, 2, 3]
        healthy = True
        Door(database).request("search", search_id, "resume")
        wait_until(lambda: job_of(database, search_id).state.is_final)
    assert job_of(database, search_id).state is JobState.succeeded


@pytest.mark.parametrize(("allowed", "state"), [(2, JobState.failed), (3, JobState.succeeded)])
def test_the_failure_budget_ends_a_hopeless_search(
    allowed: int, state: JobState, database: Database, tmp_path: Path
) -> None:
    broken = {"8", "9", "10"}  # the first bred candidates

    def pool(settings: ScorerSettings, workers: int) -> LocalPool:
        return LocalPool(settings, refuse=lambda task: task.key.split(":")[0] in broken)

    job = run_to_end(database, tmp_path, EVOLUTION | {"budget": {"max_failed_trials": allowed}}, pool)
    assert job.state is state, job.error_message
    if state is JobState.failed:
        assert job.error_code == "FAILURE_BUDGET_SPENT"
        assert "max_failed_trials=2 candidates may fail, but 3 did; the last reason: refused" in str(job.error_message)


@pytest.mark.parametrize(("action", "state"), [("cancel", JobState.cancelled), ("pause", JobState.paused)])
def test_a_request_takes_effect_within_one_document(
    action: str, state: JobState, database: Database, tmp_path: Path
) -> None:
    search_id = submitted(database)
    count = 0

    def ask(_: ScoringTask) -> bool:
        nonlocal count
        count += 1
        if count == 7:
            Door(database).request("search", search_id, action)  # type: ignore[arg-type]
        return False

    with controller(database, tmp_path, lambda settings, _: LocalPool(settings, refuse=ask), lease_seconds=60):
        wait_until(lambda: job_of(database, search_id).state is state)
    assert count == 7, "the document in hand is the last"
    assert len(Door(database).scores(search_id, split="search")) == 7
    assert job_of(database, search_id).lease_owner is None


def test_a_job_shows_its_conditions(database: Database, tmp_path: Path) -> None:
    search_id = submitted(database)
    seen: dict[str, str] = {}

    def look(_: ScoringTask) -> bool:
        seen.update({one.type: one.reason for one in job_of(database, search_id).conditions})
        return False

    with controller(database, tmp_path, lambda settings, _: LocalPool(settings, refuse=look)):
        wait_until(lambda: job_of(database, search_id).state.is_final)
    assert seen == {"DatabaseReachable": "Connected", "Progressing": "Claimed", "WorkersReady": "Ready"}
    changes = [one["reason"] for one in events(database, search_id, "condition.changed")]
    assert changes == ["Connected", "Starting", "Ready"]
    assert [one.reason for one in job_of(database, search_id).conditions] == ["Succeeded"]


# -- the database goes away ------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, which it may stop."""
    home = (fast_directory() or tmp_path) / f"ropewalk-outage-{uuid.uuid4().hex}"
    with EmbeddedPostgres(home) as running:
        upgrade(running.url)
        yield running
    shutil.rmtree(home)


READ_ONLY = "ALTER SYSTEM SET default_transaction_read_only = {value}"


def set_read_only(server: EmbeddedPostgres, value: str) -> None:
    """What a primary becomes that a standby took the place of: alive, with its sessions, and of no use."""
    with closing(Database(server.url)) as database, database.autocommit() as connection:
        connection.execute(sa.text(READ_ONLY.format(value=value)))
        connection.execute(sa.text("SELECT pg_reload_conf()"))


@pytest.mark.parametrize("fault", ["stopped", "read-only"])
def test_an_outage_longer_than_a_lease_is_waited_out(
    fault: str,
    undisturbed: WholeStudy,
    tmp_path: Path,
    server: EmbeddedPostgres,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(outages, "QUIET", 2.5)
    away = Database(server.url)
    search_id = submit(away)
    with controller(away, tmp_path, slow_pools(seconds=0.02)):  # a lease is 2 s
        wait_until(lambda: job_of(away, search_id).progress.document_passes > 3)
        server.stop() if fault == "stopped" else set_read_only(server, "on")
        began = time.monotonic()
        wait_until(lambda: not Door(away).ready()[0])
        assert re.search("is not|is read-only", Door(away).ready()[1])
        time.sleep(4.5)  # patience is 3 s
        server.start() if fault == "stopped" else set_read_only(server, "off")
        wait_until(lambda: Door(away).ready()[0])
        lasted = time.monotonic() - began
        wait_until(lambda: job_of(away, search_id).state.is_final)
        time.sleep(2.6)
        Door(away).ready()
    assert whole_study(away, search_id) == undisturbed
    changes = events(away, search_id, "condition.changed")
    (change,) = [one for one in changes if one["reason"] == "Reconnected"]
    found = re.match(r"the database was away for (\d+) s: ", change["message"])
    assert found is not None
    assert 3 <= int(found[1]) <= lasted + 2
    assert Door(away).statistics().lease_losses == 0
    assert not events(away, search_id, "infrastructure.failed")
    told = [record.levelname for record in caplog.records if record.name == "ropewalk.database"]
    assert told == ["WARNING", "INFO"], caplog.text
    warnings = [record for record in caplog.records if record.levelno > logging.INFO]
    assert [record.name for record in warnings] == ["ropewalk.database"], caplog.text
    away.close()
    server.stop()


def slow_pools(*, seconds: float) -> OpenPool:
    def rest(_: ScoringTask) -> bool:
        time.sleep(seconds)
        return False

    return lambda settings, workers: LocalPool(settings, refuse=rest)
