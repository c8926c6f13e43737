"""Who gets a job next: the oldest that is free, and what happens to one that its controller has to release."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from ropewalk.wire.kinds import JobKind, JobState
from storage.jobs import conditions, events, requests
from storage.jobs.leases import JobRow, hold, now, seconds_from_now, with_time
from storage.jobs.rows import change, move
from storage.postgres.outages import Outage, Outages
from storage.postgres.tables import jobs
from storage.records import Condition, Lease
from storage.transitions import CLAIMABLE


def claim(
    connection: sa.Connection, owner: str, lease_seconds: float, kinds: Sequence[JobKind], outages: Outages
) -> JobRow | None:
    """The oldest free job under a new lease; None when there is none.

    Whoever looks for work reaps what has expired: there is no process or job of its own for it that could die too.
    A lease that expired because nobody could renew it, as this process saw in `outages`, is no controller's loss.
    """
    row = _oldest_free(connection, kinds)
    if row is None:
        return None
    outage = _outage_of(row, lease_seconds, outages)
    why = conditions.claimed(row, owner, outage)
    claimed = change(
        connection,
        row.id,
        lease_owner=owner,
        lease_epoch=jobs.c.lease_epoch + 1,
        lease_expires_at=seconds_from_now(lease_seconds),
        started_at=sa.func.coalesce(jobs.c.started_at, now),
        retry_at=None,
        conditions=conditions.merged(row.conditions, why, row.db_now),
    )
    events.record(
        connection,
        row.id,
        "job.claimed" if row.lease_owner is None or outage is not None else "job.taken_over",
        owner=owner,
        epoch=claimed.lease_epoch,
        state=row.state,
        previous_owner=row.lease_owner,
        expired_at=None if row.lease_owner is None else row.lease_expires_at.isoformat(),
        failures=row.failures or None,
    )
    conditions.record_changes(connection, row, [one for one in why if one.type == "DatabaseReachable"])
    return claimed


def _outage_of(row: JobRow, lease_seconds: float, outages: Outages) -> Outage | None:
    """The outage in which the lease of before expired, or soon after: its owner may have dropped the job meanwhile."""
    if row.lease_expires_at is None:
        return None
    return outages.around((row.db_now - row.lease_expires_at).total_seconds(), grace=lease_seconds)


def put_back(connection: sa.Connection, lease: Lease, why: Condition, failures: int, retry_in: float | None) -> JobRow:
    """Free the job after an infrastructure failure: claimable in `retry_in` seconds, or None: paused.

    A cancellation or pause that the user asked for meanwhile is not made to wait.

    Raises:
        LeaseLost.
    """
    row = hold(connection, lease)
    events.record(
        connection, row.id, "infrastructure.failed", reason=why.reason, message=why.message, failures=failures
    )
    if row.state == JobState.cancelling:
        cancelled = move(connection, row, JobState.cancelled, failures=failures)
        requests.finish_parent(connection, cancelled)
        return cancelled
    if row.request == "pause" or retry_in is None:
        return move(connection, row, JobState.paused, why=None if row.request == "pause" else why, failures=failures)
    events.record(connection, row.id, "job.released", owner=lease.owner, epoch=lease.epoch, retry_in=retry_in)
    return change(
        connection,
        row.id,
        lease_owner=None,
        lease_expires_at=None,
        failures=failures,
        retry_at=seconds_from_now(retry_in),
        conditions=conditions.merged({}, [why], row.db_now),
    )


def _oldest_free(connection: sa.Connection, kinds: Sequence[JobKind]) -> JobRow | None:
    """The row with `db_now`, locked. One that somebody else has locked is at work, or is being claimed: passed over."""
    return connection.execute(_query(tuple(kinds))).one_or_none()


@cache
def _query(kinds: tuple[JobKind, ...]) -> sa.Select[Any]:
    """Built once: every controller asks twice a second."""
    expired = sa.or_(jobs.c.lease_expires_at.is_(None), jobs.c.lease_expires_at <= now)
    due = sa.or_(jobs.c.retry_at.is_(None), jobs.c.retry_at <= now)
    query = sa.select(jobs).where(jobs.c.kind.in_(kinds), jobs.c.state.in_(CLAIMABLE), expired, due)
    query = query.order_by(jobs.c.created_at, jobs.c.id).limit(1).with_for_update(skip_locked=True, key_share=True)
    return with_time(query)
