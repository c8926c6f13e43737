"""Poolers between us and the server: one that keeps a session for each client is as good as none.

One that hands sessions out by the transaction is not: what a session was told (its schemas, its time zone, prepared
statements) is told to whoever comes next, and tables would be made in the wrong schema.
"""

from __future__ import annotations

import sqlalchemy as sa

from storage.errors import SharedSessions
from storage.postgres.database import Database

TRIES = 5  # a pooler may hand out its sessions in turn

_SESSION = sa.text("SELECT pg_backend_pid()")


def refuse_shared_sessions(database: Database) -> None:
    """Return unless two clients that are connected at the same time meet in one session.

    Raises:
        SharedSessions: says what to do.
    """
    with database.autocommit() as first, database.autocommit() as second:
        for _ in range(TRIES):
            if first.execute(_SESSION).scalar_one() == second.execute(_SESSION).scalar_one():
                raise SharedSessions(
                    "a pooler must keep a session for each client, but this one shares them between transactions: "
                    "set pool_mode = session for this database (PgBouncer), or connect to PostgreSQL directly"
                )
