"""One PostgreSQL server, reached through one bounded pool."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from psycopg import errors as pg_errors
from sqlalchemy import exc

from storage.errors import DatabaseUnreachable, NotPermitted, SchemaOutdated, StorageError
from storage.optuna_tables import storage as optuna_storage
from storage.optuna_tables.dashboard import DashboardStorage
from storage.postgres.connecting import POOL_TIMEOUT, is_away, make_engine
from storage.postgres.outages import Outages
from storage.postgres.urls import mask, parse_url, place
from storage.postgres.versions import check_versions, found_versions


class Database:
    """A PostgreSQL database. Thread-safe; opens no connection before the first use.

    No statement waits longer than `connecting.ANSWER_SECONDS` for its answer, unless `bounded` is False.

    Raises:
        InvalidDatabaseUrl: the URL does not start with postgresql:// or postgresql+psycopg://.
    """

    def __init__(self, url: str, *, bounded: bool = True, outages: Outages | None = None) -> None:
        """`outages`: those of another pool on the same database, so that each is told once."""
        self._url = parse_url(url)
        self._engine = make_engine(self._url, bounded=bounded)
        self.outages = outages or Outages()

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
            if isinstance(translated, DatabaseUnreachable):
                self.outages.failed(translated)
            if translated is None:
                raise
            raise translated from error
        except DatabaseUnreachable as error:
            self.outages.failed(error)
            raise
        else:
            self.outages.worked()

    def check(self) -> None:
        """Return when the server answers, takes writes and has current tables.

        Raises:
            DatabaseUnreachable, SchemaOutdated.
        """
        with self.transaction() as connection:
            read_only = connection.execute(sa.text("SHOW transaction_read_only")).scalar_one() == "on"
            found = found_versions(connection)
        if read_only:
            # A standby, or a primary of before a failover, answers questions; nobody could work with it.
            self.close()  # the next session may find the primary
            with self.translated():
                raise DatabaseUnreachable(f"the database must take writes, but {self._place()} is read-only")
        check_versions(found)

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
            return NotPermitted(f"the database's user needs the right to do this, but: {str(cause.orig).strip()}")
        broke = cause.connection_invalidated or isinstance(cause, (exc.OperationalError, exc.InterfaceError))
        if broke or is_away(cause.orig):
            reason = mask(str(cause.orig).strip(), self._url.password)
            return DatabaseUnreachable(f"the database must be reachable, but {self._place()} is not: {reason}")
        return None

    def _place(self) -> str:
        """Host and port, as in messages."""
        return place(self._url)
