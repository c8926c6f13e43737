"""A real PostgreSQL server for the tests, and a fresh database for each test that asks for one.

The server starts once per process of a run, in a temporary directory; each `database` is a copy of a migrated
template, which costs some 50 ms. Nothing of this is imported before the first fixture is asked for.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    import psycopg

    from storage.postgres.database import Database
TEMPLATE = "template_ropewalk"

END_ALL = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

WATCHER = """
import shutil, sys
from pathlib import Path
from storage.embedded.server import EmbeddedPostgres
sys.stdin.read()
home = Path(sys.argv[1])
if (home / "postgres" / "data" / "postmaster.pid").exists():
    server = EmbeddedPostgres(home)
    server.start()
    server.stop()
shutil.rmtree(home, ignore_errors=True)
"""

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a running server's database `ropewalk`, which has no tables."""
    from storage.embedded.server import EmbeddedPostgres

    with (
        tempfile.TemporaryDirectory(prefix="ropewalk-test-", dir=fast_directory()) as home,
        _cleaned_up_after_a_kill(home),
        EmbeddedPostgres(Path(home)) as server,
    ):
        yield server.url


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> str:
    """The name of a migrated database to copy."""
    from storage.postgres.upgrading import upgrade

    url = create_database(postgres_url, TEMPLATE, template="template0")
    upgrade(url)
    return TEMPLATE


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """The URL of a migrated database of the test's own, for processes that the test starts."""
    name = f"test_{next(_numbers)}"
    yield create_database(postgres_url, name, template=template_database)
    execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """The URL of a database of the test's own without tables."""
    name = f"test_{next(_numbers)}"
    yield create_database(postgres_url, name, template="template0")
    execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database of the test's own."""
    from storage.postgres.database import Database

    database = Database(database_url)
    yield database
    database.close()


def create_database(server_url: str, name: str, *, template: str) -> str:
    """A new database's URL."""
    import sqlalchemy as sa

    execute(server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    return sa.make_url(server_url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def _cleaned_up_after_a_kill(home: str) -> Iterator[None]:
    """A killed test run leaves neither server nor files: a process whose input ends with our life sees to it."""
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCHER, home], stdin=subprocess.PIPE, start_new_session=True, cwd=ROOT
    )
    try:
        yield
    finally:
        watcher.kill()
        watcher.communicate()


def set_read_only(database: Database, value: str) -> None:
    """From now on, for every session; those of now are ended, as when a standby takes a primary's place."""
    name = database.engine.url.database
    for statement in (f"ALTER DATABASE {name} SET default_transaction_read_only = {value}", END_ALL):
        execute(database.url, "SET default_transaction_read_only = off", statement)


@contextmanager
def ending_sessions(url: str, *, every_seconds: float) -> Iterator[None]:
    """End every other session of the database, again and again."""
    stop = threading.Event()

    def end_all() -> None:
        while not stop.wait(every_seconds):
            execute(url, END_ALL)

    thread = threading.Thread(target=end_all)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def session_ending_at(database: Database, *, statement: int) -> Iterator[Callable[[], bool]]:
    """The session that sends the block's statement of this number, counted from 0, ends before the server answers it.

    Gives whether there was such a statement.
    """
    from sqlalchemy import event

    sent = itertools.count()
    reached = False

    def end(_: object, cursor: psycopg.Cursor, *__: object) -> None:
        nonlocal reached
        if next(sent) == statement:
            reached = True
            execute(database.url, f"SELECT pg_terminate_backend({cursor.connection.info.backend_pid}, 5000)")

    event.listen(database.engine, "before_cursor_execute", end)
    try:
        yield lambda: reached
    finally:
        event.remove(database.engine, "before_cursor_execute", end)


def fast_directory() -> Path | None:
    """Memory where there is plenty: the server waits for the disk at every commit. None: the usual place."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30:
        return memory
    return None


def execute(server_url: str, *statements: str) -> None:
    import psycopg
    import sqlalchemy as sa

    parsed = sa.make_url(server_url).set(drivername="postgresql").difference_update_query(["options"])
    url = parsed.render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
