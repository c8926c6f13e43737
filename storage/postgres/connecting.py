"""How sessions are made: in UTC, bounded in number, and none that waits forever, on either side.

A peer that vanishes without a word is the fault that most services never meet in a test. Keepalives find one that is
gone; they do not find a proxy or a firewall that acknowledges everything and answers nothing, so this side also limits
how long it waits for an answer. The server's side matters as much: a session whose client has vanished in the middle
of a transaction holds its row locks, and nobody could take the job over before the server ends it.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.abc import RV, PQGen
from psycopg.errors import _WaitTimeout
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from storage.postgres.schema_names import OPTUNA_SCHEMA

POOL_SIZE = 5
MAX_OVERFLOW = 5
POOL_RECYCLE = 900  # seconds
POOL_TIMEOUT = 15  # seconds to wait for a free connection
PING_AFTER = 1.0  # seconds that a connection has rested
CONNECT_TIMEOUT = 5  # seconds
ANSWER_SECONDS = 15.0  # to wait for the server's answer to one statement
#: Classes of SQLSTATE, and single ones, with which a server says that it cannot work now, or not for writers: that it
#: starts, stops or recovers, has no connection, memory or disk left, cannot read or write its files, or is a standby.
#: What failed was sent to the wrong server or at the wrong time: no session is kept, and asking again later may help.
AWAY_CLASSES = ("08", "53", "57P", "58")
AWAY = frozenset({"25006", "25P03"})  # a read-only transaction; a transaction that was idle for too long

IDLE_IN_TRANSACTION = 8_000  # milliseconds: less than a lease, so that a take-over never waits for a vanished client

CONNECT_ARGUMENTS: dict[str, str | int] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "application_name": "ropewalk",
    # A peer that vanished without a word is noticed within half a minute, not after hours.
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}


_RETURNED_AT = "ropewalk:returned_at"


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that gives up on a server that does not answer."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's own, with a limit; past it the connection is closed, since its state is not known.

        Raises:
            OperationalError: no answer in time.
        """
        limit = ANSWER_SECONDS if timeout is None else timeout
        try:
            return super().wait(gen, interval, timeout=limit)
        except _WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server did not answer within {limit:g} s") from None


def connect(kind: type[psycopg.Connection[Any]], *args: Any, **kwargs: Any) -> psycopg.Connection[Any]:
    """A session that counts in UTC (Optuna compares the database's times with naive ones) and finds Optuna's tables;
    ours are always written with their schema.

    It is told so when it is there: a pooler refuses the options of a start-up, or drops them without a word.
    """
    session = kind.connect(*args, **kwargs)
    try:
        session.autocommit = True
        session.execute(
            f"SET timezone = 'UTC'; SET search_path = {OPTUNA_SCHEMA}; "
            f"SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION}".encode()
        )
        session.autocommit = False
    except psycopg.Error:
        session.close()
        raise
    return session


def make_engine(url: sa.URL, *, bounded: bool = True) -> sa.Engine:
    """The pool on `url`; not `bounded`: statements may take their time, as migrations do."""
    engine = sa.create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=MAX_OVERFLOW,
        pool_timeout=POOL_TIMEOUT,
        pool_recycle=POOL_RECYCLE,
        hide_parameters=True,
        connect_args=dict(CONNECT_ARGUMENTS),
    )
    event.listen(engine, "handle_error", _forget_values)
    event.listen(engine, "handle_error", _drop_sessions_when_away)
    _ping_the_rested(engine)
    kind = BoundedConnection if bounded else psycopg.Connection

    @event.listens_for(engine, "do_connect")
    def _connect(dialect: object, record: object, args: list[Any], kwargs: dict[str, Any]) -> psycopg.Connection[Any]:
        return connect(kind, *args, **kwargs)

    return engine


def is_away(error: BaseException | None) -> bool:
    """Whether a driver's error says that the server cannot work now, by its SQLSTATE."""
    state = getattr(error, "sqlstate", None) or ""
    return state in AWAY or state.startswith(AWAY_CLASSES)


def is_read_only(connection: DBAPIConnection) -> bool:
    """Whether the session's server takes no writes: a standby, or one that was told so. It reports changes of that
    with its answers, so that nothing is asked."""
    reported = connection.pgconn.parameter_status
    return b"on" in (reported(b"in_hot_standby"), reported(b"default_transaction_read_only"))


def _drop_sessions_when_away(context: sa.ExceptionContext) -> None:
    """SQLAlchemy drops the pool's sessions on what it takes for a lost connection; this is no less one, and the next
    session may find a server that works."""
    if is_away(context.original_exception):
        context.is_disconnect = True


def _ping_the_rested(engine: sa.Engine) -> None:
    """Ask a connection whether it still lives before it is used, unless it answered a moment ago: SQLAlchemy's
    `pool_pre_ping` asks every time, which a controller that stores scores feels.

    Whatever breaks in that moment fails with the statement, and stores try again.
    """

    @event.listens_for(engine, "checkin")
    def _came_back(connection: object, record: ConnectionPoolEntry) -> None:
        record.info[_RETURNED_AT] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _is_taken(connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: object) -> None:
        rested = time.monotonic() - record.info.get(_RETURNED_AT, time.monotonic())
        if rested < PING_AFTER:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            raise sa.exc.InvalidatePoolError(str(error)) from error  # the pool connects anew, and tries again
        if is_read_only(connection):  # it was not when it was made: another server may be the primary by now
            raise sa.exc.InvalidatePoolError("the server takes no writes any more")


def _forget_values(context: sa.ExceptionContext) -> None:
    """Errors reach logs, events and answers: they name the rule that was broken, never the values of the row, which
    PostgreSQL adds as the error's detail."""
    error, wrapper = context.original_exception, context.sqlalchemy_exception
    if isinstance(error, psycopg.Error) and error.diag.message_detail and error.diag.message_primary:
        error.args = (error.diag.message_primary,)
        if wrapper is not None:
            wrapper.args = (f"({type(error).__module__}.{type(error).__name__}) {error.diag.message_primary}",)
