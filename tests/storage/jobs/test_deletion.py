"""A job goes whole or not at all, nothing else goes with it, and the audit log says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa

from ropewalk.wire.kinds import JobState
from storage.errors import InvalidTransition, JobDeleted, JobInUse, JobNotFound
from storage.jobs.deletion import Deletion
from storage.jobs.statistics import read_statistics
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import IdempotencyRequest, Progress
from storage.study.record import StudyRecord
from tests.helpers.http_server import SPEC_JSON, add_trials, claimed_search, finish_search
from tests.helpers.waiting import wait_until

# Every table but Alembic's and Optuna's versions; what a deletion adds to is told apart below.
TABLES = """
    SELECT schemaname || '.' || tablename FROM pg_tables
    WHERE schemaname IN ('ropewalk', 'optuna') AND tablename !~ 'version' ORDER BY 1
"""
GROWING = ("ropewalk.audit", "ropewalk.tallies")
DELETE = """
import sys
from storage.jobs.deletion import Deletion
from storage.postgres.database import Database
Deletion(Database(sys.argv[1])).delete(sys.argv[2], actor="somebody")
"""


def finished_search(database: Database) -> str:
    """With trials, scores, events and a key."""
    jobs = JobStore(database)
    key = IdempotencyRequest(principal="p", key=os.urandom(8).hex(), request_hash="h")
    job = jobs.create("search", SPEC_JSON, [("team", "nlp")], idempotency=key, creator="key:a").job
    claimed = jobs.claim("test", 60)
    assert claimed is not None
    assert claimed[0].id == job.id
    lease = claimed[1]
    jobs.transition(lease, JobState.preparing)
    jobs.transition(lease, JobState.searching)
    add_trials(database, lease, scored=3)
    jobs.append_event(lease, "trial.failed", "{}")
    jobs.update_progress(lease, Progress(document_passes=12, cached_passes=5, tokens=12_288))
    finish_search(jobs, lease)
    return job.id


def rows(database: Database) -> dict[str, int]:
    with database.engine.begin() as connection:
        tables = connection.execute(sa.text(TABLES)).scalars().all()
        found = {name: connection.execute(sa.text(f"SELECT count(*) FROM {name}")).scalar_one() for name in tables}
    assert {"ropewalk.jobs", "ropewalk.events", "optuna.studies", "optuna.trials"} <= set(found)
    return {name: count for name, count in found.items() if name not in GROWING}


def test_everything_of_a_job_goes_and_nothing_else(database: Database) -> None:
    kept = finished_search(database)
    before = rows(database)
    gone = finished_search(database)
    assert all(count > before[name] for name, count in rows(database).items() if before[name] and "cache" not in name)
    counted = read_statistics(database)

    deleted = Deletion(database).delete(gone, actor="key:admin")

    assert (deleted.kind, deleted.scores, deleted.trials) == ("search", 6, 8)
    assert deleted.events > 3
    assert rows(database) == before
    assert len(StudyRecord(database, kept).trials()) == 8
    assert JobStore(database).get(kept).labels == (("team", "nlp"),)
    now = read_statistics(database)
    for counter in ("passes", "tokens", "failed_trials", "stages", "failed_jobs"):
        assert getattr(now, counter) == getattr(counted, counter), f"{counter} went down"
    for ask in (
        JobStore(database).get,
        JobStore(database).events,
        lambda one: JobStore(database).request(one, "cancel"),
    ):
        with pytest.raises(JobDeleted, match=f"key:admin deleted {gone} at 20"):
            ask(gone)
    with pytest.raises(JobNotFound) as unknown:
        JobStore(database).get("srch_never")
    assert not isinstance(unknown.value, JobDeleted)
    assert Deletion(database).among([gone, kept, "srch_never"]) == {gone}


def test_what_has_not_ended_stays(database: Database) -> None:
    jobs = JobStore(database)
    queued = jobs.create("search", SPEC_JSON).job.id
    with pytest.raises(InvalidTransition, match=f"{queued} is queued: cancel it first"):
        Deletion(database).delete(queued, actor="a")
    jobs.request(queued, "pause")
    with pytest.raises(InvalidTransition, match="is paused"):
        Deletion(database).delete(queued, actor="a")
    jobs.request(queued, "cancel")
    Deletion(database).delete(queued, actor="a")
    lease = claimed_search(jobs)
    with pytest.raises(InvalidTransition, match="is searching"):
        Deletion(database).delete(lease.job_id, actor="a")


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("evaluation", '{{"search_id":"{0}"}}'),
        ("evaluation", '{{"checkpoint":"/home/artifacts/{0}/checkpoint-1"}}'),
        ("finetune", '{{"search_id":"{0}"}}'),
    ],
)
def test_what_an_unfinished_job_needs_stays(kind: str, spec: str, database: Database) -> None:
    jobs, needed = JobStore(database), finished_search(database)
    user = jobs.create(kind, spec.format(needed)).job.id  # type: ignore[arg-type]
    with pytest.raises(JobInUse, match=f"{needed} is needed by {user}"):
        Deletion(database).delete(needed, actor="a")
    jobs.request(user, "cancel")
    Deletion(database).delete(needed, actor="a")
    assert jobs.get(user).state is JobState.cancelled, "who used it goes on saying so"


def test_a_fine_tuning_outlives_its_search(database: Database) -> None:
    jobs, lease = JobStore(database), claimed_search(JobStore(database))
    jobs.transition(lease, JobState.validating)
    child = jobs.hand_off(lease, "{}", "{}").id
    for one in (lease.job_id, child):
        with pytest.raises(InvalidTransition):
            Deletion(database).delete(one, actor="a")
    jobs.request(lease.job_id, "cancel")
    Deletion(database).delete(lease.job_id, actor="a")
    assert jobs.get(child).parent_id == lease.job_id
    Deletion(database).delete(child, actor="a")


def test_of_two_at_once_one_deletes(database: Database) -> None:
    gone = finished_search(database)
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(Deletion(database).delete, gone, actor=name) for name in ("a", "b", "c")]
        errors = [one.exception(timeout=60) for one in asked]
    assert sorted(type(error).__name__ for error in errors) == ["JobDeleted", "JobDeleted", "NoneType"]


@pytest.mark.slow
def test_a_process_that_is_killed_in_the_middle_has_deleted_nothing(database: Database) -> None:
    """Somebody holds the study, so the deletion waits when scores and events are gone already; then it is killed."""
    gone = finished_search(database)
    before = rows(database)
    plain = sa.make_url(database.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as other:  # not of the pool, whose idle transactions the server ends
        other.execute("SELECT * FROM optuna.studies WHERE study_name = %s FOR UPDATE", [gone])
        process = subprocess.Popen([sys.executable, "-c", DELETE, database.url, gone])
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'studies'"
        with psycopg.connect(plain, autocommit=True) as watcher:
            wait_until(lambda: watcher.execute(waits).fetchone() == (1,))
        process.send_signal(signal.SIGKILL)
        process.wait()
        other.rollback()
    assert rows(database) == before
    assert JobStore(database).get(gone).state is JobState.succeeded
    wait_until(lambda: Deletion(database).delete(gone, actor="b").scores == 6)


@pytest.mark.parametrize("change", ["UPDATE ropewalk.audit SET actor = 'x'", "DELETE FROM ropewalk.audit"])
def test_the_audit_log_is_append_only(change: str, database: Database) -> None:
    Deletion(database).delete(finished_search(database), actor="a")
    with pytest.raises(sa.exc.IntegrityError, match="only ever added"), database.engine.begin() as connection:
        connection.execute(sa.text(change))


def test_labels_go_from_every_row(database: Database) -> None:
    jobs, secret = JobStore(database), "hunter2"
    job = jobs.create("search", f'{{"labels":{{"a":"{secret}"}}}}', [("a", secret), ("b", "2")]).job
    changed = jobs.relabel(job.id, {"a": None, "c": "3"}, lambda spec, labels: repr(dict(labels)), actor="somebody")
    assert changed.labels == (("b", "2"), ("c", "3"))
    assert changed.version > job.version
    with database.engine.begin() as connection:
        for table in ("jobs", "events", "audit", "idempotency_keys"):
            text = f"SELECT count(*) FROM ropewalk.{table} AS one WHERE one::text ~ :secret"
            assert connection.execute(sa.text(text), {"secret": secret}).scalar_one() == 0, table
