"""One PostgreSQL server, reached through one bounded pool."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import sqlalchemy as sa
from alembic import command
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from psycopg import errors as pg_errors
from sqlalchemy import exc

from storage.errors import DatabaseUnreachable, InvalidDatabaseUrl, SchemaOutdated, StorageError
from storage.optuna_tables import storage as optuna_storage
from storage.optuna_tables.dashboard import DashboardStorage
from storage.postgres.connecting import POOL_TIMEOUT, make_engine
from storage.postgres.schema_names import OPTUNA_SCHEMA, OUR_SCHEMA
from storage.postgres.versions import alembic_config, expected_versions, found_versions

DRIVER = "postgresql+psycopg"
ACCEPTED = ("postgresql", DRIVER)

#: Whoever upgrades holds this advisory lock: "ropewalk" in ASCII.
UPGRADE_LOCK = int.from_bytes(b"ropewalk", "big")

#: Every session counts in UTC (Optuna compares the database's times with naive ones) and finds Optuna's tables; ours
#: are always written with their schema.
SESSION_OPTIONS = f"-c timezone=UTC -c search_path={OPTUNA_SCHEMA}"


class Database:
    """A PostgreSQL database. Thread-safe; opens no connection before the first use.

    No statement waits longer than `connecting.ANSWER_SECONDS` for its answer, unless `bounded` is False.

    Raises:
        InvalidDatabaseUrl: the URL does not start with postgresql:// or postgresql+psycopg://.
    """

    def __init__(self, url: str, *, bounded: bool = True) -> None:
        self._url = parse_url(url)
        self._engine = make_engine(self._url, bounded=bounded)

    def __repr__(self) -> str:
        return f"Database({self._url.render_as_string(hide_password=True)!r})"

    @property
    def engine(self) -> sa.Engine:
        """The process's one pool for this database; Optuna's tables are reached through it too."""
        return self._engine

    @property
    def url(self) -> str:
        """The URL with its password: for other processes of ours, never for logs."""
        return self._url.render_as_string(hide_password=False)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction, committed at the end of the block and rolled back by whatever the block raises.

        Raises:
            DatabaseUnreachable, SchemaOutdated: in place of the driver's errors.
        """
        with self.translated(), self._engine.connect() as connection:
            yield connection
            self._commit(connection)

    @contextmanager
    def autocommit(self) -> Iterator[sa.Connection]:
        """A connection on which each statement is a transaction of its own, without a BEGIN or a COMMIT to send.

        Raises:
            DatabaseUnreachable, SchemaOutdated: in place of the driver's errors; what a statement did is not known.
        """
        try:
            with self.translated(), self._engine.connect() as connection:
                yield connection.execution_options(isolation_level="AUTOCOMMIT")
        except DatabaseUnreachable as error:
            error.outcome_unknown = True
            raise

    def _commit(self, connection: sa.Connection) -> None:
        try:
            connection.commit()
        except exc.DBAPIError as error:
            translated = self._translate(error)
            if isinstance(translated, DatabaseUnreachable):
                translated.outcome_unknown = True
                raise translated from error
            raise

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Driver errors of the block as errors of this room; others pass."""
        try:
            yield
        except (exc.SQLAlchemyError, StorageInternalError) as error:
            translated = self._translate(error)
            if translated is None:
                raise
            raise translated from error

    def check(self) -> None:
        """Return when the server answers and its tables are current. Raises: DatabaseUnreachable, SchemaOutdated."""
        with self.transaction() as connection:
            found, expected = found_versions(connection), expected_versions()
        if found != expected:
            raise SchemaOutdated(
                f"the database's tables must be of version {expected}, but are of {found}: run `ropewalk db upgrade`"
            )

    @cached_property
    def optuna_tables(self) -> RDBStorage:
        """Optuna's storage on our pool, without a cache: what writes go through."""
        with self.translated():
            return optuna_storage.open_storage(self._engine)

    @cached_property
    def optuna(self) -> BaseStorage:
        """Optuna's storage with its cache of finished trials, for reading."""
        return optuna_storage.with_cache(self.optuna_tables)

    @cached_property
    def dashboard(self) -> BaseStorage:
        """What the Optuna dashboard reads: as :attr:`optuna`, without the curves that nobody could tell apart."""
        return DashboardStorage(self.optuna)

    def close(self) -> None:
        """End every connection; the object stays usable."""
        self._engine.dispose()

    def _translate(self, error: exc.SQLAlchemyError | StorageInternalError) -> StorageError | None:
        """Our error for one of the driver's, or None when it tells of a fault of ours."""
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        if isinstance(cause, exc.TimeoutError):
            return DatabaseUnreachable(f"no connection to {self._place()} became free within {POOL_TIMEOUT} s")
        if isinstance(cause, exc.PendingRollbackError):  # the session broke, and what followed noticed only that
            return DatabaseUnreachable(f"the session with {self._place()} ended in the middle of a transaction")
        if not isinstance(cause, exc.DBAPIError):
            return None
        if isinstance(cause.orig, (pg_errors.UndefinedTable, pg_errors.UndefinedColumn, pg_errors.InvalidSchemaName)):
            return SchemaOutdated("the database's tables are missing or outdated: run `ropewalk db upgrade`")
        if isinstance(cause.orig, pg_errors.InsufficientPrivilege):
            return StorageError(f"the database's user needs the right to do this, but: {str(cause.orig).strip()}")
        if cause.connection_invalidated or isinstance(cause, (exc.OperationalError, exc.InterfaceError)):
            reason = mask(str(cause.orig).strip(), self._url.password)
            return DatabaseUnreachable(f"the database must be reachable, but {self._place()} is not: {reason}")
        return None

    def _place(self) -> str:
        """Host and port, as in messages."""
        return place(self._url)


def place(url: sa.URL) -> str:
    """Where the server is, without user and password."""
    host = url.host or url.query.get("host") or "localhost"
    port = url.port or url.query.get("port") or 5432
    return f"PostgreSQL at {host}, port {port}"


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


def mask(text: str, password: object) -> str:
    """`text` without the password."""
    return text.replace(str(password), "***") if password else text


def parse_url(url: str) -> sa.URL:
    """The URL with our driver and session options.

    Raises:
        InvalidDatabaseUrl: the rule and the scheme; never the rest, where a password may be.
    """
    rule = "the database URL must start with postgresql:// or postgresql+psycopg://"
    scheme = url.split(":", 1)[0]
    if scheme not in ACCEPTED:
        raise InvalidDatabaseUrl(f"{rule}, but got {scheme!r}" if "://" in url else f"{rule}, but it has no scheme")
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError):
        raise InvalidDatabaseUrl(f"{rule} and read user:password@host:port/database after it") from None
    given = parsed.query.get("options", "")
    options = " ".join((given if isinstance(given, str) else " ".join(given), SESSION_OPTIONS)).strip()
    return parsed.set(drivername=DRIVER).update_query_dict({"options": options})
