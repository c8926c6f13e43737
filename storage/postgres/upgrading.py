"""Making and upgrading the tables of both schemas: the work of their owner, `ropewalk db upgrade`."""

from __future__ import annotations

from contextlib import closing

import sqlalchemy as sa
from alembic import command

from storage.errors import NotPermitted, SchemaOutdated, SchemaTooNew
from storage.optuna_tables import storage as optuna_storage
from storage.postgres.database import Database
from storage.postgres.poolers import refuse_shared_sessions
from storage.postgres.schema_names import OPTUNA_SCHEMA, OUR_SCHEMA
from storage.postgres.versions import alembic_config, check_versions, found_versions

#: PostgreSQL wants the right to create schemas even for `IF NOT EXISTS`.
_HAS_SCHEMA = sa.text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = :name)")

#: Whoever upgrades holds this advisory lock: "ropewalk" in ASCII.
UPGRADE_LOCK = int.from_bytes(b"ropewalk", "big")


def make_current(url: str) -> None:
    """Make or upgrade the tables where that is needed; a user without the right to do so needs them current.

    Raises:
        InvalidDatabaseUrl, DatabaseUnreachable, SchemaOutdated, SchemaTooNew, SharedSessions.
    """
    with closing(Database(url)) as database:
        with database.transaction() as connection:
            found = found_versions(connection)
        refuse_shared_sessions(database)
        try:
            check_versions(found)
        except SchemaTooNew:
            raise
        except SchemaOutdated as outdated:
            try:
                upgrade(url)
            except NotPermitted as error:
                raise SchemaOutdated(f"{outdated} as their owner, since this user may not: {error}") from error


def upgrade(url: str) -> None:
    """Make or upgrade the tables of both schemas: ours by Alembic, Optuna's by Optuna. Any number may try at once.

    Raises:
        InvalidDatabaseUrl, DatabaseUnreachable, NotPermitted.
    """
    database = Database(url, bounded=False)
    try:
        with database.transaction() as lock:
            lock.execute(sa.select(sa.func.pg_advisory_xact_lock(UPGRADE_LOCK)))
            with database.transaction() as connection:
                for schema in (OUR_SCHEMA, OPTUNA_SCHEMA):
                    if not connection.execute(_HAS_SCHEMA, {"name": schema}).scalar_one():
                        connection.execute(sa.schema.CreateSchema(schema))
                config = alembic_config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
            with database.translated():
                optuna_storage.upgrade_tables(database.engine, OPTUNA_SCHEMA)
    finally:
        database.close()
