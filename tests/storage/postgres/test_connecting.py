"""Neither side of a connection waits for ever for the other."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa

from ropewalk.wire.kinds import JobState
from storage.errors import DatabaseUnreachable
from storage.jobs.store import JobStore
from storage.postgres import connecting
from storage.postgres.database import Database
from storage.records import Progress
from tests.helpers.leases import ClaimedJob, expire_lease
from tests.helpers.proxy import Proxy


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with Proxy(database_url) as running:
        yield running


@pytest.fixture
def far(proxy: Proxy) -> Iterator[Database]:
    """The test's database, by way of the proxy."""
    database = Database(proxy.url)
    yield database
    database.close()


def test_a_server_that_answers_no_more_is_given_up(
    proxy: Proxy, far: Database, claimed_job: ClaimedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "ANSWER_SECONDS", 0.5)
    monkeypatch.setitem(connecting.CONNECT_ARGUMENTS, "connect_timeout", 2)
    lease = claimed_job(JobState.searching)
    store = JobStore(far)
    store.update_progress(lease, Progress(trials=1))
    with proxy.swallow(), pytest.raises(DatabaseUnreachable, match=r"did not answer within 0\.5 s|timeout"):
        store.update_progress(lease, Progress(trials=2))
    store.update_progress(lease, Progress(trials=3))
    assert store.get(lease.job_id).progress.trials == 3


def test_a_slow_server_is_no_dead_one(proxy: Proxy, far: Database, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(JobState.searching)
    proxy.delay_seconds = 0.05
    JobStore(far).update_progress(lease, Progress(trials=1))
    assert JobStore(far).get(lease.job_id).progress.trials == 1


def test_a_client_that_vanished_in_a_transaction_holds_no_lock_for_long(
    database: Database, proxy: Proxy, claimed_job: ClaimedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would keep the job from being taken over: a claim passes over rows that are locked."""
    monkeypatch.setattr(connecting, "IDLE_IN_TRANSACTION", 300)
    lease = claimed_job(JobState.searching)
    expire_lease(database, lease.job_id)
    far, locked, done = Database(proxy.url), threading.Event(), threading.Event()

    def lock_and_wait() -> None:
        with far.transaction() as connection:
            connection.execute(sa.text("SELECT 1 FROM ropewalk.jobs FOR UPDATE"))
            locked.set()
            done.wait()

    def vanish() -> None:
        with pytest.raises(DatabaseUnreachable):
            lock_and_wait()

    thread = threading.Thread(target=vanish)
    thread.start()
    locked.wait()
    assert JobStore(database).claim("b", 60) is None, "the lease has expired, but the row is locked"
    deadline = time.monotonic() + 20
    while (claimed := JobStore(database).claim("b", 60)) is None:
        assert time.monotonic() < deadline
    assert claimed[0].id == lease.job_id
    done.set()
    thread.join()
    far.close()


def test_an_error_of_the_database_names_the_rule_and_no_value(database: Database) -> None:
    statement = "INSERT INTO ropewalk.jobs (id, kind, spec_json) VALUES (:id, :kind, :spec_json)"
    values = {"id": "srch_secret_id", "kind": "secret-kind", "spec_json": "hunter2"}
    with pytest.raises(sa.exc.IntegrityError) as caught, database.transaction() as connection:
        connection.execute(sa.text(statement), values)
    told = "".join(traceback.format_exception(caught.value))
    assert "ck_jobs_state_of_kind" in told
    assert not [value for value in values.values() if value in told.replace(statement, "")]


def test_a_session_that_ended_while_it_rested_is_not_used(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "PING_AFTER", 0.0)
    with database.transaction() as connection:
        session = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    with closing(Database(database.url)) as another, another.transaction() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": session})
    with database.transaction() as connection:
        assert connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one() != session
