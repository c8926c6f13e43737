"""The migrations and the models describe the same tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from storage.database import Database
from storage.jobs import JobStore
from storage.schema_names import OUR_SCHEMA
from storage.scores import ScoreStore
from storage.tables import metadata
from storage.versions import alembic_config

CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'ropewalk'::regnamespace AND conrelid <> 0 AND conrelid::regclass::text !~ 'alembic_version'
    ORDER BY 1, 2
"""
INDEXES = (
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'ropewalk' AND tablename !~ 'alembic' ORDER BY 1"
)
COLUMNS = """
    SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
    WHERE table_schema = 'ropewalk' AND table_name <> 'alembic_version' ORDER BY 1, 2
"""
OLD_JOB = "INSERT INTO ropewalk.jobs (id, kind, spec_json) VALUES ('srch_old', 'search', '{}')"
OLD_SCORE = """
    INSERT INTO ropewalk.document_scores
        (job_id, split, trial, document_id, nats, tokens, exact, worker, attempts, seconds, lease_epoch)
    SELECT id, 'search', 0, 'd', 0.5, 7, true, 'w', 1, 0, 1 FROM ropewalk.jobs
"""


def describe(database: Database) -> list[list[sa.Row[tuple[object, ...]]]]:
    with database.engine.begin() as connection:
        return [list(connection.execute(sa.text(query)).all()) for query in (CONSTRAINTS, INDEXES, COLUMNS)]


def test_alembic_finds_no_difference(database: Database) -> None:
    options = {
        "include_schemas": True,
        "include_name": lambda name, kind, parents: kind != "schema" or name == OUR_SCHEMA,
        "version_table_schema": OUR_SCHEMA,
        "compare_type": True,
        "compare_server_default": True,
    }
    with database.engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_constraints_indexes_and_columns_are_the_same_to_the_letter(
    database: Database, empty_database_url: str
) -> None:
    from_models = Database(empty_database_url)
    with from_models.engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(OUR_SCHEMA))
        metadata.create_all(connection)
    assert describe(database) == describe(from_models)
    assert all(describe(database))
    from_models.close()


def test_scores_from_before_the_cache_are_kept_and_of_unknown_origin(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    migrate(database, "0001")
    with database.transaction() as connection:
        connection.execute(sa.text(OLD_JOB))
        connection.execute(sa.text(OLD_SCORE))
    migrate(database, "head")
    store, scores = JobStore(database), ScoreStore(database)
    (job,) = store.list("search").items
    assert (job.conditions, job.failures, job.retry_at) == ((), 0, None)
    (score,) = scores.all(job.id, "search")
    assert (score.score.nats, score.scorer, score.score.gradient) == (0.5, "", None)
    with database.transaction() as connection:  # a controller of the version before, not yet replaced
        connection.execute(sa.text(OLD_SCORE.replace("'d'", "'e'")))
    assert len(scores.all(job.id, "search")) == 2
    database.close()


def migrate(database: Database, revision: str) -> None:
    config = alembic_config()
    with database.engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(OUR_SCHEMA, if_not_exists=True))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
