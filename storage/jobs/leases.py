"""Who may write: one controller per job, by a lease in the job's row that the database's clock ends.

Every write of a controller happens in a transaction that first locks the job's row and finds its own owner and epoch
there. A claim locks the same row and raises the epoch, so the write is either before the claim, or refused: a
controller that was stopped past its lease and wakes up can write nothing once somebody has claimed the job.

A lease that expires may be claimed; it is not lost before. On a machine that is too busy to renew in time, with nobody
else to take the job, its owner goes on.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from storage.errors import LeaseLost
from storage.jobs.audit import not_found
from storage.postgres.tables import jobs
from storage.records import Lease

JobRow = sa.Row[Any]

#: PostgreSQL's statement time is that before a wait for a lock; this one is read after it.
now = sa.func.clock_timestamp()


def seconds_from_now(seconds: float) -> sa.ColumnElement[Any]:
    """A moment by the database's clock."""
    return now + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def lock_job(connection: sa.Connection, job_id: str) -> JobRow:
    """The job's row with `db_now`, locked against every other writer until the transaction ends.

    Raises:
        JobNotFound.
    """
    row = _locked(connection, job_id, shared=False)
    if row is None:
        raise not_found(connection, job_id)
    return row


def hold(connection: sa.Connection, lease: Lease, *, shared: bool = False) -> JobRow:
    """The row of the lease's job, locked, if the lease is held.

    Args:
        shared: let other such writers of the same controller go on at the same time; not for writes to the row itself
            nor for events, whose ids must grow in the order of commits.

    Raises:
        LeaseLost: another owner or epoch. End the transaction.
    """
    row = _locked(connection, lease.job_id, shared=shared)
    if row is None or (row.lease_owner, row.lease_epoch) != (lease.owner, lease.epoch):
        raise LeaseLost(f"{lease.job_id} must be held by {lease.owner} at epoch {lease.epoch}, but {_holder(row)}")
    return row


def with_time(query: sa.Select[Any]) -> sa.Select[Any]:
    """The rows that `query` locks, with `db_now` beside them: the lock is taken within a CTE, so that this is the time
    after a wait for the lock."""
    return sa.select(query.cte("locked"), now.label("db_now"))


# Built once: every accepted score starts with one of these.
_ROW = sa.select(jobs).where(jobs.c.id == sa.bindparam("job_id"))
_LOCK = with_time(_ROW.with_for_update(key_share=True))
_LOCK_SHARED = with_time(_ROW.with_for_update(read=True))


def _locked(connection: sa.Connection, job_id: str, *, shared: bool) -> JobRow | None:
    return connection.execute(_LOCK_SHARED if shared else _LOCK, {"job_id": job_id}).one_or_none()


def _holder(row: JobRow | None) -> str:
    if row is None:
        return "there is no such job"
    if row.lease_owner is None:
        return f"nobody holds it (state {row.state})"
    return f"{row.lease_owner} holds it at epoch {row.lease_epoch}"
