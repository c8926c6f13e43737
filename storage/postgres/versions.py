"""Which version the tables of both schemas have, and which they should have."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from ropewalk.version import ROPEWALK_VERSION
from storage.errors import SchemaOutdated, SchemaTooNew
from storage.postgres.schema_names import OPTUNA_SCHEMA, OUR_SCHEMA

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"


@dataclass(frozen=True, kw_only=True, slots=True)
class SchemaVersions:
    """The Alembic revisions of the two schemas; None where there are no tables yet."""

    ropewalk: str | None
    optuna: str | None

    def __str__(self) -> str:
        return f"ropewalk={self.ropewalk}, optuna={self.optuna}"


def alembic_config() -> Config:
    """Alembic's configuration for our migrations; no ini file."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def found_versions(connection: sa.Connection) -> SchemaVersions:
    """The versions in the database."""
    return SchemaVersions(ropewalk=_revision(connection, OUR_SCHEMA), optuna=_revision(connection, OPTUNA_SCHEMA))


@cache
def expected_versions() -> SchemaVersions:
    """The versions that this code is written for."""
    ours, optunas = _directories()
    return SchemaVersions(ropewalk=ours.get_current_head(), optuna=optunas.get_current_head())


def check_versions(found: SchemaVersions) -> None:
    """Return when `found` is what this code is written for.

    Raises:
        SchemaOutdated: there are no tables, or older ones.
        SchemaTooNew: a newer Ropewalk, or a newer Optuna, has upgraded them.
    """
    expected = expected_versions()
    if found == expected:
        return
    if any(one not in (None, *known) for one, known in zip((found.ropewalk, found.optuna), _known(), strict=True)):
        raise SchemaTooNew(
            f"the database's tables must be of version {expected} for Ropewalk {ROPEWALK_VERSION}, but a newer one has "
            f"made them {found}: run that one, or restore the database of before its upgrade"
        )
    raise SchemaOutdated(
        f"the database's tables must be of version {expected}, but are of {found}: run `ropewalk db upgrade`"
    )


@cache
def _known() -> tuple[frozenset[str], frozenset[str]]:
    """The revisions that our migrations, and Optuna's, have."""
    ours, optunas = (
        frozenset(script.revision for script in directory.walk_revisions()) for directory in _directories()
    )
    return ours, optunas


def _directories() -> tuple[ScriptDirectory, ScriptDirectory]:
    spec = importlib.util.find_spec("optuna.storages")
    assert spec is not None
    assert spec.origin is not None
    optuna_migrations = Path(spec.origin).parent / "_rdb" / "alembic"
    return ScriptDirectory.from_config(alembic_config()), ScriptDirectory(str(optuna_migrations))


def _revision(connection: sa.Connection, schema: str) -> str | None:
    options = {"version_table_schema": schema}
    return MigrationContext.configure(connection, opts=options).get_current_revision()
