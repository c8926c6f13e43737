"""How sessions are made: in UTC, bounded in number, and none that waits for ever, on either side.

A peer that vanishes without a word is the fault that most services never meet in a test. Keepalives find one that is
gone; they do not find a proxy or a firewall that acknowledges everything and answers nothing, so this side also limits
how long it waits for an answer. The server's side matters as much: a session whose client has vanished in the middle
of a transaction holds its row locks, and nobody could take the job over before the server ends it.
"""

from __future__ import annotations

from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.abc import RV, PQGen
from psycopg.errors import _WaitTimeout
from sqlalchemy import event

POOL_SIZE = 5
MAX_OVERFLOW = 5
POOL_RECYCLE = 900  # seconds
POOL_TIMEOUT = 15  # seconds to wait for a free connection
CONNECT_TIMEOUT = 5  # seconds
ANSWER_SECONDS = 15.0  # to wait for the server's answer to one statement
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


def make_engine(url: sa.URL, *, bounded: bool = True) -> sa.Engine:
    """The pool on `url`; not `bounded`: statements may take their time, as migrations do."""
    engine = sa.create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=MAX_OVERFLOW,
        pool_timeout=POOL_TIMEOUT,
        pool_recycle=POOL_RECYCLE,
        pool_pre_ping=True,
        connect_args=dict(CONNECT_ARGUMENTS),
    )
    if bounded:

        @event.listens_for(engine, "do_connect")
        def _connect(dialect: object, record: object, args: list[Any], kwargs: dict[str, Any]) -> BoundedConnection:
            options = f"{kwargs.pop('options', '')} -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION}"
            return BoundedConnection.connect(*args, options=options, **kwargs)

    return engine
