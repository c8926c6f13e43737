"""PgBouncer between us and the server: a session for each client works, sessions by the transaction are refused."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.errors import SharedSessions
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.postgres.poolers import refuse_shared_sessions
from storage.postgres.upgrading import make_current
from storage.study.record import StudyRecord
from tests.helpers.waiting import free_port, wait_until

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
SCHEMAS = "SELECT DISTINCT schemaname FROM pg_tables WHERE schemaname !~ '^(pg_|info)' ORDER BY 1"

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed here")


@contextmanager
def pooled(url: str, directory: Path, *, mode: str, ignored: str) -> Iterator[str]:
    """The URL of the same database by way of a pooler."""
    assert PGBOUNCER is not None
    parsed, port = sa.make_url(url), free_port()
    directory.chmod(0o755)
    for parent in directory.parents[:-1]:
        parent.chmod(parent.stat().st_mode | 0o011)
    (directory / "users.txt").write_text(f'"{parsed.username}" ""\n')
    settings = directory / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host={parsed.query['host']} port={parsed.query['port']} user={parsed.username}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = {mode}\nignore_startup_parameters = {ignored}\nauth_file = {directory / 'users.txt'}\n"
    )
    as_user = {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid} if os.geteuid() == 0 else {}
    process = subprocess.Popen(  # it does not run for root
        [PGBOUNCER, "-q", str(settings)],
        stderr=subprocess.DEVNULL,
        cwd="/",
        **as_user,  # type: ignore[call-overload]
    )
    through = parsed.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
    try:
        with closing(Database(through)) as database:
            wait_until(lambda: _answers(database), seconds=20)
        yield through
    finally:
        process.terminate()
        process.wait()


def _answers(database: Database) -> bool:
    try:
        with database.transaction() as connection:
            return bool(connection.execute(sa.text("SELECT true")).scalar_one())
    except Exception:
        return False


@pytest.mark.parametrize("ignored", ["extra_float_digits", "options"])
def test_a_session_for_each_client_works(ignored: str, empty_database_url: str, tmp_path: Path) -> None:
    with pooled(empty_database_url, tmp_path, mode="session", ignored=ignored) as url:
        make_current(url)
        with closing(Database(url)) as database:
            database.check()
            store = JobStore(database)
            store.create("search", "{}")
            claimed = store.claim("a", 60)
            assert claimed is not None
            StudyRecord(database, claimed[1].job_id, claimed[1]).create_if_missing(model="pocket", target_length=1024)
            with database.transaction() as connection:
                assert connection.execute(sa.text(SCHEMAS)).scalars().all() == ["optuna", "ropewalk"]


@pytest.mark.parametrize("ignored", ["extra_float_digits", "options"])
def test_sessions_by_the_transaction_are_refused_before_anything_is_made(
    ignored: str, empty_database_url: str, tmp_path: Path
) -> None:
    through = pooled(empty_database_url, tmp_path, mode="transaction", ignored=ignored)
    with through as url, pytest.raises(SharedSessions, match="pool_mode = session"):
        make_current(url)
    with closing(Database(empty_database_url)) as database, database.transaction() as connection:
        assert connection.execute(sa.text(SCHEMAS)).scalars().all() == []


def test_a_direct_connection_is_nobody_elses(database: Database) -> None:
    refuse_shared_sessions(database)
