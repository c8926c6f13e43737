"""Alembic's entry: migrates over the connection that `storage.postgres.database.upgrade` hands in."""

from __future__ import annotations

from alembic import context

from storage.postgres.schema_names import OUR_SCHEMA
from storage.postgres.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table_schema=OUR_SCHEMA
)
with context.begin_transaction():
    context.run_migrations()
