"""Which job is next, in fairness to their owners and within their limits, and what happens to one that its controller
has to release."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from ropewalk.wire.kinds import JobKind, JobState
from storage.jobs import conditions, events, requests
from storage.jobs.leases import JobRow, hold, now, seconds_from_now
from storage.jobs.rows import change, move
from storage.postgres.outages import Outage, Outages
from storage.postgres.tables import EVERY_KEY, IN_HANDS, LOCAL, jobs
from storage.records import Condition, Lease


def claim(
    connection: sa.Connection,
    owner: str,
    lease_seconds: float,
    kinds: Sequence[JobKind],
    running: Collection[str],
    outages: Outages,
) -> JobRow | None:
    """The job whose turn it is, under a new lease; None when there is none.

    Whoever looks for work reaps what has expired: there is no process or job of its own for it that could die too.
    A lease that expired because nobody could renew it, as this process saw in `outages`, is no controller's loss.
    """
    row = _next(connection, kinds, running)
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
    """The outage in which the lease of before expired, or soon after: its owner may have dropped the job meanwhile.

    Two leases behind its end at most: a renewal that waited for the database goes through when it is back, a moment
    behind the first sign of it, for a job that its owner has dropped already.
    """
    if row.lease_expires_at is None:
        return None
    return outages.around((row.db_now - row.lease_expires_at).total_seconds(), grace=2 * lease_seconds)


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


# Whose turn it is: jobs that only have to be ended, then by priority, then of the owner with the fewest jobs at work,
# then the oldest. An owner with all that it may have is passed over. So is a row that somebody else has locked: it is
# at work, or being claimed.
_RUNNING = f"""
    running AS MATERIALIZED (
        SELECT coalesce(owner, '') AS owner, count(*) AS jobs, sum(workers) AS workers FROM ropewalk.jobs
        WHERE {IN_HANDS} AND lease_expires_at > clock_timestamp() GROUP BY 1
    )
"""
_FREE = f"""
    FROM ropewalk.jobs
    LEFT JOIN running ON running.owner = coalesce(jobs.owner, '')
    LEFT JOIN ropewalk.owner_limits AS own ON own.owner = jobs.owner
    LEFT JOIN ropewalk.owner_limits AS rest
        ON rest.owner = '{EVERY_KEY}' AND own.owner IS NULL AND jobs.owner <> '{LOCAL}'
    WHERE {IN_HANDS.replace("state", "jobs.state")}
      AND (jobs.lease_expires_at IS NULL OR jobs.lease_expires_at <= clock_timestamp())
      AND (jobs.retry_at IS NULL OR jobs.retry_at <= clock_timestamp())
      AND (jobs.state = 'cancelling' OR (
           coalesce(running.jobs, 0) < coalesce(own.running_jobs, rest.running_jobs, 2147483647)
           AND coalesce(running.workers, 0) + jobs.workers <= coalesce(own.workers, rest.workers, 2147483647)))
"""
_NEXT = sa.text(f"""
    WITH {_RUNNING}, locked AS (
        SELECT jobs.* {_FREE} AND jobs.kind = ANY(:kinds) AND NOT jobs.id = ANY(:running)
        ORDER BY jobs.state = 'cancelling' DESC, jobs.priority DESC, coalesce(running.jobs, 0),
                 jobs.created_at, jobs.id
        LIMIT 1 FOR NO KEY UPDATE OF jobs SKIP LOCKED
    )
    SELECT locked.*, clock_timestamp() AS db_now, EXISTS (SELECT FROM ropewalk.owner_limits) AS is_limited FROM locked
""")
#: (kind, jobs that could be claimed now, seconds that the longest of them has been so)
QUEUE = sa.text(f"""
    WITH {_RUNNING}
    SELECT jobs.kind, count(*), extract(epoch FROM max(clock_timestamp() - jobs.updated_at)) {_FREE} GROUP BY jobs.kind
""")
_ONE_AT_A_TIME = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:owner, 0))")
_HAS_ROOM = sa.text(f"""
    SELECT count(jobs.id) < coalesce(min(limits.running_jobs), 2147483647)
       AND coalesce(sum(jobs.workers), 0) + :workers <= coalesce(min(limits.workers), 2147483647)
    FROM (SELECT * FROM ropewalk.owner_limits WHERE owner = :owner OR (owner = '{EVERY_KEY}' AND :owner <> '{LOCAL}')
          ORDER BY owner = :owner DESC LIMIT 1) AS limits
    LEFT JOIN ropewalk.jobs ON jobs.owner = :owner AND {IN_HANDS} AND lease_expires_at > clock_timestamp()
""")

#: Of a job that nobody holds and that may be claimed: what its owner has at work, and what it may have.
_HELD_BACK = sa.text(f"""
    WITH {_RUNNING}
    SELECT jobs.owner, jobs.workers,
           coalesce(running.jobs, 0) AS at_work, coalesce(own.running_jobs, rest.running_jobs) AS most_jobs,
           coalesce(running.workers, 0) AS workers_at_work, coalesce(own.workers, rest.workers) AS most_workers
    FROM ropewalk.jobs
    LEFT JOIN running ON running.owner = jobs.owner
    LEFT JOIN ropewalk.owner_limits AS own ON own.owner = jobs.owner
    LEFT JOIN ropewalk.owner_limits AS rest
        ON rest.owner = '{EVERY_KEY}' AND own.owner IS NULL AND jobs.owner <> '{LOCAL}'
    WHERE jobs.id = :job_id AND {IN_HANDS.replace("state", "jobs.state")} AND jobs.state <> 'cancelling'
      AND (jobs.lease_expires_at IS NULL OR jobs.lease_expires_at <= clock_timestamp())
      AND (jobs.retry_at IS NULL OR jobs.retry_at <= clock_timestamp())
""")


def held_back(connection: sa.Connection, job_id: str) -> str | None:
    """Why the job waits, where that is because of the limits of its owner: with what the owner has at work, and what it
    may have. None where it does not."""
    row = connection.execute(_HELD_BACK, {"job_id": job_id}).one_or_none()
    if row is None:
        return None
    if row.most_jobs is not None and row.at_work >= row.most_jobs:
        return f"waits for jobs of {row.owner}, of which {row.at_work} are at work and {row.most_jobs} may be at once"
    if row.most_workers is not None and row.workers_at_work + row.workers > row.most_workers:
        return (
            f"waits for workers of {row.owner}, of which {row.workers_at_work} are at work and {row.most_workers} may "
            f"be at once: this job takes {row.workers}"
        )
    return None


def _next(connection: sa.Connection, kinds: Sequence[JobKind], running: Collection[str]) -> JobRow | None:
    """The row with `db_now`, locked."""
    row = connection.execute(_NEXT, {"kinds": list(kinds), "running": list(running)}).one_or_none()
    if row is None or not row.is_limited or row.owner is None or row.state == JobState.cancelling:
        return row
    # What others have claimed for this owner since the statement above began counts, too.
    connection.execute(_ONE_AT_A_TIME, {"owner": f"ropewalk {row.owner}"})
    has_room = connection.execute(_HAS_ROOM, {"owner": row.owner, "workers": row.workers}).scalar_one_or_none()
    return row if has_room is not False else None
