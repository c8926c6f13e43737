"""The migrations and the models describe the same tables, and every database of an earlier revision becomes one of them
with its rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from ropewalk.wire.kinds import JobState
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.postgres.schema_names import OUR_SCHEMA
from storage.postgres.tables import metadata
from storage.postgres.upgrading import upgrade
from storage.postgres.versions import alembic_config
from storage.records import TrialState
from storage.scores.cache import ScoreCache
from storage.scores.store import ScoreStore
from storage.study.record import StudyRecord
from tests.helpers.postgres import create_database
from tests.storage import schema_dump
from tests.storage.schema_dump import CANDIDATE, FINETUNE, SEARCH

REVISIONS = sorted(script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions())
OURS = """
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
# What only migrations make.
TRIGGERS = """
    SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2
"""
FUNCTIONS = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'ropewalk'::regnamespace ORDER BY 1"
OLD_SCORE = """
    INSERT INTO ropewalk.document_scores
        (job_id, split, trial, document_id, nats, tokens, exact, worker, attempts, seconds, lease_epoch)
    SELECT id, 'search', 0, 'e', 0.5, 7, true, 'w', 1, 0, 1 FROM ropewalk.jobs WHERE kind = 'search'
"""

Description = list[list[sa.Row[tuple[object, ...]]]]


def describe(database: Database, *, migrated: bool = False) -> Description:
    """Every constraint, index and column, and with `migrated` triggers and functions, as PostgreSQL tells them."""
    queries = (OURS, INDEXES, COLUMNS, *((TRIGGERS, FUNCTIONS) if migrated else ()))
    with database.engine.begin() as connection:
        return [list(connection.execute(sa.text(query)).all()) for query in queries]


def differences(database: Database) -> list[object]:
    """What Alembic would change to make the tables those of the models."""
    options = {
        "include_schemas": True,
        "include_name": lambda name, kind, parents: kind != "schema" or name == OUR_SCHEMA,
        "version_table_schema": OUR_SCHEMA,
        "compare_type": True,
        "compare_server_default": True,
    }
    with database.engine.begin() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


@pytest.fixture
def loaded(revision: str, empty_database_url: str) -> Iterator[Database]:
    """A database as it was left by the revision."""
    schema_dump.load(empty_database_url, revision)
    with closing(Database(empty_database_url)) as database:
        yield database


def test_alembic_finds_no_difference(database: Database) -> None:
    assert differences(database) == []


def test_constraints_indexes_and_columns_are_the_same_to_the_letter(
    database: Database, empty_database_url: str
) -> None:
    from_models = Database(empty_database_url)
    with from_models.engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(OUR_SCHEMA))
        metadata.create_all(connection)
    assert describe(database) == describe(from_models)
    assert all(describe(database, migrated=True))
    from_models.close()


def test_every_revision_has_its_dump() -> None:
    assert [path.stem for path in sorted(schema_dump.SCHEMAS.iterdir())] == [f"v{name}" for name in REVISIONS]


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_migration_makes_what_it_made_when_its_dump_was_taken(
    revision: str, loaded: Database, postgres_url: str
) -> None:
    """Databases out there have run it: what it did is changed by a later one, never in place."""
    url = create_database(postgres_url, f"migrated_{revision}", template="template0")
    schema_dump.migrate(url, revision)
    with closing(Database(url)) as database:
        assert describe(loaded, migrated=True) == describe(database, migrated=True)


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_database_of_any_revision_becomes_todays_with_its_rows(
    revision: str, loaded: Database, database: Database
) -> None:
    upgrade(loaded.url)
    loaded.check()
    assert differences(loaded) == []
    assert describe(loaded, migrated=True) == describe(database, migrated=True)

    jobs = JobStore(loaded)
    search = jobs.get(SEARCH)
    assert (search.state, search.labels, search.progress.trials) == (JobState.finetuning, (("team", "nlp"),), 2)
    assert len(search.conditions) == (revision >= "0003")
    assert [job.id for job in jobs.list("finetune").items] == [FINETUNE]
    assert jobs.get(FINETUNE).failures == (1 if revision >= "0003" else 0)
    assert [event.type for event in jobs.events(SEARCH)] == ["job.created"]

    scores = ScoreStore(loaded).all(SEARCH, "search")
    scorer = "0123456789abcdef" if revision >= "0002" else ""
    assert [(one.trial, one.score.nats, one.scorer) for one in scores] == [(0, 3.5, scorer), (1, 1.75, scorer)]
    assert len(ScoreCache(loaded).get([b"\x0f" * 32])) == (revision >= "0002")

    study = StudyRecord(loaded, SEARCH)
    assert [(trial.state, trial.nll) for trial in study.trials()] == [
        (TrialState.pruned, None),
        (TrialState.complete, 0.25),
    ]
    assert {trial.candidate for trial in study.trials()} == {CANDIDATE}
    assert [step.documents for step in study.recorded_steps()] == [(0,)]

    claimed = jobs.claim("a", 60)  # and it can be written to
    assert claimed is not None
    assert claimed[0].id == FINETUNE


@pytest.mark.parametrize("revision", ["0001"])
def test_a_controller_of_the_first_revision_may_still_write_scores(loaded: Database) -> None:
    """It is replaced while the new ones come up."""
    upgrade(loaded.url)
    with loaded.transaction() as connection:
        connection.execute(sa.text(OLD_SCORE))
    assert len(ScoreStore(loaded).all(SEARCH, "search")) == 3
