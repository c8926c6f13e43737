"""Alembic's entry: migrates over the connection that `storage.database.upgrade` hands in, within its transaction."""

from __future__ import annotations

from alembic import context

from storage.schema_names import OUR_SCHEMA
from storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table_schema=OUR_SCHEMA
)
with context.begin_transaction():
    context.run_migrations()
