"""Reaching a database, and saying so when it cannot be reached."""

from __future__ import annotations

import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from storage.errors import DatabaseUnreachable, InvalidDatabaseUrl, SchemaOutdated, SchemaTooNew
from storage.jobs.store import JobStore
from storage.postgres import connecting
from storage.postgres.database import Database
from storage.postgres.upgrading import make_current, upgrade
from storage.postgres.urls import parse_url, place
from storage.postgres.versions import expected_versions
from storage.study.record import StudyRecord

PASSWORD = "s3cr&t{x}%41"
ESCAPED = "s3cr%26t%7Bx%7D%2541"


@pytest.mark.parametrize("url", ["sqlite:///x.db", "mysql://a:b@h/d", "postgresql+asyncpg://h/d", "postgres://h/d", ""])
def test_only_postgresql_is_accepted(url: str) -> None:
    with pytest.raises(InvalidDatabaseUrl, match=r"postgresql:// or postgresql\+psycopg://"):
        Database(url)


@pytest.mark.parametrize("url", [f"mysql://me:{ESCAPED}@h/d", f"postgresql://me:{ESCAPED}@h:port/d"])
def test_a_refused_url_is_not_repeated(url: str) -> None:
    with pytest.raises(InvalidDatabaseUrl) as refused:
        Database(url)
    assert "s3cr" not in str(refused.value)


def test_both_spellings_reach_the_server(database_url: str) -> None:
    for scheme in ("postgresql://", "postgresql+psycopg://"):
        database = Database(database_url.replace("postgresql+psycopg://", scheme))
        database.check()
        database.close()


def test_an_unreachable_server_is_named_without_the_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    database = Database(f"postgresql://me:{ESCAPED}@127.0.0.1:{port}/db")
    with pytest.raises(DatabaseUnreachable, match=f"127.0.0.1, port {port}") as refused:
        database.check()
    for text in (str(refused.value), repr(database), repr(refused.value.__cause__)):
        assert PASSWORD not in text
        assert ESCAPED not in text
    assert PASSWORD in str(sa.make_url(database.url).password)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql://me:a,b@one/db", "one, port 5432"),
        ("postgresql://me:a,b%40@one:6000,two/db?target_session_attrs=read-write", "one,two, port 6000,5432"),
        ("postgresql+psycopg://one,[::1]:6001/db", "one,::1, port 5432,6001"),
        ("postgresql://me@/db?host=/a,/b&port=1,2", "/a,/b, port 1,2"),
    ],
)
def test_a_url_may_name_several_servers(url: str, where: str) -> None:
    assert place(parse_url(url)) == f"PostgreSQL at {where}"
    assert parse_url(url).database == "db"


def test_several_servers_are_tried_in_turn(database_url: str) -> None:
    directory = sa.make_url(database_url).query["host"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    query = {"host": f"127.0.0.1,{directory}", "port": f"{port},5432", "target_session_attrs": "read-write"}
    database = Database(sa.make_url(database_url).set(query=query).render_as_string(hide_password=False))
    database.check()
    database.close()


def test_a_server_that_does_not_answer_is_given_up_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connecting.CONNECT_ARGUMENTS, "connect_timeout", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = Database(f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/db")
        started = time.monotonic()
        with pytest.raises(DatabaseUnreachable):
            JobStore(database).get("x")
        assert time.monotonic() - started < 60


def test_sessions_count_in_utc_and_say_who_they_are(database: Database) -> None:
    with database.transaction() as connection:
        assert connection.execute(sa.text("SHOW timezone")).scalar_one() == "UTC"
        assert connection.execute(sa.text("SHOW application_name")).scalar_one() == "ropewalk"


def test_ended_connections_are_replaced(database: Database) -> None:
    store = JobStore(database)
    job = store.create("search", "{}").job
    end_all = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    for _ in range(2):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: store.get(job.id), range(8)))
        with database.engine.begin() as connection:
            connection.execute(sa.text(end_all))
        assert store.get(job.id) == job


def test_a_connection_that_ends_in_a_transaction_is_unreachable(database: Database) -> None:
    with pytest.raises(DatabaseUnreachable), database.transaction() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
    database.check()


def test_a_full_pool_is_told_as_unreachable(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.2)
    taken = [database.engine.connect() for _ in range(10)]
    try:
        with pytest.raises(DatabaseUnreachable, match="became free"):
            database.check()
    finally:
        for connection in taken:
            connection.close()


def test_without_tables_everything_says_how_to_make_them(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    with pytest.raises(SchemaOutdated, match="ropewalk db upgrade"):
        database.check()
    with pytest.raises(SchemaOutdated, match="ropewalk db upgrade"):
        JobStore(database).create("search", "{}")
    with pytest.raises(SchemaOutdated, match="ropewalk db upgrade"):
        StudyRecord(database, "srch_x").trials()
    database.close()


def test_many_may_upgrade_at_once_and_again(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, [empty_database_url] * 4))
    database = Database(empty_database_url)
    job = JobStore(database).create("search", "{}").job
    upgrade(empty_database_url)
    database.check()
    assert JobStore(database).get(job.id) == job
    with database.transaction() as connection:
        tables = sa.text("SELECT schemaname, count(*) FROM pg_tables WHERE schemaname !~ '^(pg_|info)' GROUP BY 1")
        schemas = [row.schemaname for row in connection.execute(tables)]
    assert sorted(schemas) == ["optuna", "ropewalk"]
    database.close()


def set_version(database: Database, schema: str, version: str) -> None:
    with database.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {schema}.alembic_version SET version_num = '{version}'"))


@pytest.mark.parametrize("schema", ["ropewalk", "optuna"])
def test_a_newer_schema_is_told_on_one_line_with_both_versions(schema: str, database: Database) -> None:
    expected = getattr(expected_versions(), schema)
    set_version(database, schema, "9999")
    for refuse in (database.check, lambda: make_current(database.url)):
        with pytest.raises(SchemaTooNew) as refused:
            refuse()
        message = str(refused.value)
        assert "\n" not in message
        assert f"{schema}={expected}" in message
        assert f"{schema}=9999" in message
        assert "run that one, or restore" in message


def test_an_older_schema_is_upgraded_by_who_may(database: Database) -> None:
    set_version(database, "ropewalk", "0004")
    with pytest.raises(SchemaOutdated, match=r"ropewalk=0004.*run `ropewalk db upgrade`"):
        database.check()


def test_upgrading_leaves_logging_alone(empty_database_url: str) -> None:
    logger = logging.getLogger("storage.somewhere")
    upgrade(empty_database_url)
    assert not logger.disabled
