"""Making and upgrading the tables of both schemas: the work of their owner, `ropewalk db upgrade`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command

from storage.optuna_tables import storage as optuna_storage
from storage.postgres.database import Database
from storage.postgres.schema_names import OPTUNA_SCHEMA, OUR_SCHEMA
from storage.postgres.versions import alembic_config

#: Whoever upgrades holds this advisory lock: "ropewalk" in ASCII.
UPGRADE_LOCK = int.from_bytes(b"ropewalk", "big")


def upgrade(url: str) -> None:
    """Make or upgrade the tables of both schemas: ours by Alembic, Optuna's by Optuna. Any number may try at once.

    Raises:
        InvalidDatabaseUrl, DatabaseUnreachable.
    """
    database = Database(url, bounded=False)
    try:
        with database.transaction() as lock:
            lock.execute(sa.select(sa.func.pg_advisory_xact_lock(UPGRADE_LOCK)))
            with database.transaction() as connection:
                for schema in (OUR_SCHEMA, OPTUNA_SCHEMA):
                    connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
                config = alembic_config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
            with database.translated():
                optuna_storage.upgrade_tables(database.engine.url)
    finally:
        database.close()
