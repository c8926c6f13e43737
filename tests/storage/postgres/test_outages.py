"""A server that cannot work now, or takes no writes, is away: sessions are dropped, and one line tells of it."""

from __future__ import annotations

import logging

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import DatabaseUnreachable
from storage.jobs.store import JobStore
from storage.postgres import connecting, retries
from storage.postgres.database import Database
from storage.postgres.outages import QUIET, TOLD_AFTER, Outages
from tests.helpers.postgres import set_read_only

AWAY = {
    "25006": "read-only transaction",
    "25P03": "idle in transaction",
    "08006": "connection failure",
    "53100": "disk full",
    "53200": "out of memory",
    "53300": "too many connections",
    "57P01": "admin shutdown",
    "57P02": "crash shutdown",
    "57P03": "cannot connect now",
    "58030": "I/O error",
}
NOT_AWAY = ("22012", "23505", "42601", "P0001", "0A000")


def raise_in_server(database: Database, state: str) -> None:
    statement = f"DO $$ BEGIN RAISE EXCEPTION 'as told' USING ERRCODE = '{state}'; END $$"
    with database.transaction() as connection:
        connection.execute(sa.text(statement))


def session_of(database: Database) -> int:
    with database.transaction() as connection:
        pid: int = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        return pid


@pytest.mark.parametrize("state", AWAY)
def test_a_server_that_cannot_work_now_is_away_and_keeps_no_session(state: str, database: Database) -> None:
    before = session_of(database)
    with pytest.raises(DatabaseUnreachable, match="as told"):
        raise_in_server(database, state)
    assert session_of(database) != before


@pytest.mark.parametrize("state", NOT_AWAY)
def test_a_fault_of_ours_is_none_of_the_servers(state: str, database: Database) -> None:
    before = session_of(database)
    with pytest.raises(sa.exc.DBAPIError):
        raise_in_server(database, state)
    assert session_of(database) == before


def test_a_read_only_server_is_an_outage_for_every_write(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PATIENCE", 0.5)
    store = JobStore(database)
    set_read_only(database, "on")
    for write in (lambda: store.create("search", "{}"), lambda: store.claim("a", 60), database.check):
        with pytest.raises(DatabaseUnreachable, match="read-only"):
            write()
    set_read_only(database, "off")
    database.check()
    assert store.create("search", "{}").job.id


def test_a_session_whose_server_takes_no_writes_any_more_is_not_used(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "PING_AFTER", 0.0)
    before = session_of(database)
    assert session_of(database) == before
    with database.autocommit() as connection:
        connection.execute(sa.text("SET default_transaction_read_only = on"))
    assert session_of(database) != before


# -- what is told ----------------------------------------------------------------------------------------------------

GONE = DatabaseUnreachable("it is gone")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_outage_has_one_line_as_it_begins_and_one_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ropewalk.database")
    clock = Clock()
    outages = Outages(clock)
    for _ in range(40):  # twenty seconds of writes that fail, and of reads that do not
        outages.failed(GONE)
        clock.now += 0.25
        outages.worked()
        clock.now += 0.25
    last_read = clock.now - 0.25
    for _ in range(20):
        clock.now += 0.5
        outages.worked()
    told = [record.getMessage() for record in caplog.records]
    assert told == ["the database is away, and jobs wait for it: it is gone", "the database is back after 20 s"]
    found = outages.around(clock.now - last_read, grace=0.0)
    assert found is not None
    assert found.seconds(clock.now) == last_read - 100.0
    assert outages.around(clock.now - last_read + 0.5, grace=0.0) is not None
    assert outages.around(clock.now - last_read + 30.0, grace=0.0) is None
    assert outages.around(0.0, grace=1.0) is None


@given(pauses=st.lists(st.floats(0.0, 2 * TOLD_AFTER), min_size=1, max_size=8))
def test_failures_that_end_before_anybody_gave_up_are_no_outage(pauses: list[float]) -> None:
    clock = Clock()
    outages = Outages(clock)
    for pause in pauses:
        outages.failed(GONE)
        clock.now += min(pause, 0.9 * TOLD_AFTER)
        outages.worked()
        clock.now += 1.1 * QUIET
        outages.worked()
        assert outages.around(QUIET, grace=100.0) is None
