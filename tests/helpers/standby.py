"""A second PostgreSQL server that follows the first, as in a service with failover."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa

from storage.embedded.accounts import binaries_for, server_account
from storage.embedded.server import EmbeddedPostgres
from storage.postgres.database import Database
from tests.helpers.postgres import fast_directory
from tests.helpers.waiting import wait_until

CAUGHT_UP = "SELECT count(*) > 0 AND bool_and(replay_lsn = pg_current_wal_lsn()) FROM pg_stat_replication"


@contextmanager
def own_server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A running server of the test's own."""
    home = (fast_directory() or tmp_path) / f"ropewalk-server-{uuid.uuid4().hex[:8]}"
    try:
        with EmbeddedPostgres(home) as server:
            yield server
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def standby(primary: EmbeddedPostgres, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server that streams from `primary` until it is promoted."""
    home = (fast_directory() or tmp_path) / f"ropewalk-standby-{uuid.uuid4().hex[:8]}"
    root = home / "postgres"
    root.mkdir(parents=True)
    account = server_account(root)
    account.own(root)
    query = sa.make_url(primary.url).query
    source = ("-h", str(query["host"]), "-p", str(query["port"]), "-U", "ropewalk")
    subprocess.run(
        [binaries_for(account) / "pg_basebackup", *source, "-D", str(root / "data"), "-R", "-c", "fast"],
        check=True,
        cwd="/",
        user=account.uid,
        group=account.gid,
        extra_groups=account.extra_groups,
    )
    try:
        with EmbeddedPostgres(home) as server:
            yield server
    finally:
        shutil.rmtree(home, ignore_errors=True)


def promote(server: EmbeddedPostgres) -> None:
    """Make a standby the primary."""
    execute(server.url, "SELECT pg_promote()")


def wait_for_replay(primary: EmbeddedPostgres) -> None:
    """Return when the standby has everything."""
    wait_until(lambda: bool(execute(primary.url, CAUGHT_UP)))


def execute(url: str, statement: str) -> object:
    """What the statement answers first."""
    with closing(Database(url)) as database, database.autocommit() as connection:
        answer = connection.execute(sa.text(statement))
        return answer.scalar() if answer.returns_rows else None


def url_of_both(first: EmbeddedPostgres, second: EmbeddedPostgres) -> str:
    """The URL that finds whichever of the two takes writes."""
    urls = [sa.make_url(server.url) for server in (first, second)]
    host, port = (",".join(str(url.query[name]) for url in urls) for name in ("host", "port"))
    query = {"host": host, "port": port, "target_session_attrs": "read-write"}
    return urls[0].set(query=query).render_as_string(hide_password=False)
