"""What the operator keeps for a while only: which jobs have rested for how long, and cached scores by their age."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from storage.errors import JobInUse
from storage.jobs import audit
from storage.jobs.deletion import check_unused
from storage.jobs.leases import seconds_from_now
from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.postgres.tables import jobs
from storage.transitions import FINAL

BATCH = 10_000  # cached scores that one transaction deletes

_OLD = sa.text("""
    DELETE FROM ropewalk.score_cache WHERE key IN (
        SELECT key FROM ropewalk.score_cache
        WHERE created_at < clock_timestamp() - make_interval(secs => :seconds) LIMIT :batch
        FOR UPDATE SKIP LOCKED
    )
""")
_PAUSED = "paused"


class Expiry:
    """Of one database. Thread-safe; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retried()
    def rested(self, job_ids: Collection[str], *, seconds: float, paused: bool = False) -> tuple[str, ...]:
        """Those of `job_ids` that ended more than `seconds` ago and that no unfinished job needs; with `paused` also
        those that have been paused for so long."""
        states = [*FINAL, _PAUSED] if paused else [*FINAL]
        query = sa.select(jobs.c.id).where(
            jobs.c.id.in_(job_ids),
            jobs.c.state.in_(states),
            sa.func.coalesce(jobs.c.finished_at, jobs.c.updated_at) < seconds_from_now(-seconds),
        )
        with self._database.transaction() as connection:
            found = connection.execute(query.order_by(jobs.c.id)).scalars().all()
            return tuple(job_id for job_id in found if _is_unused(connection, job_id))

    @retried(repeatable=False)
    def record(self, job_id: str, action: str, *, actor: str, size: int) -> None:
        """What was removed of a job, in the audit log."""
        with self._database.transaction() as connection:
            audit.record(connection, actor, action, job_id, bytes=size)

    @retried()
    def forget_cached_scores(self, *, seconds: float) -> int:
        """Delete at most `BATCH` cached scores that are older; how many went."""
        with self._database.transaction() as connection:
            return connection.execute(_OLD, {"seconds": seconds, "batch": BATCH}).rowcount


def _is_unused(connection: sa.Connection, job_id: str) -> bool:
    try:
        check_unused(connection, job_id)
    except JobInUse:
        return False
    return True
