"""A finished job goes: everything about it in the database, in one transaction that leaves a row of the audit log.

Files are not this room's. Whoever deletes them looks into the audit log first, so a process that dies in between leaves
nothing that the next one does not find.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ropewalk.wire.kinds import JobKind, JobState
from storage.errors import InvalidTransition, JobInUse
from storage.jobs import audit, counting
from storage.jobs.leases import JobRow, lock_job
from storage.optuna_tables.deleting import delete_study
from storage.postgres import tables
from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.postgres.tables import DELETED, jobs
from storage.transitions import FINAL

# The id is looked for in the whole spec: it may be in the path of a checkpoint.
_USERS = sa.select(jobs.c.id).where(
    jobs.c.state.not_in(FINAL),
    sa.or_(jobs.c.parent_id == sa.bindparam("job_id"), sa.func.strpos(jobs.c.spec_json, sa.bindparam("job_id")) > 0),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Deleted:
    """What went with a job."""

    id: str
    kind: JobKind
    scores: int
    events: int
    trials: int


class Deletion:
    """Deletes jobs of one database. Thread-safe; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retried(repeatable=False)
    def delete(self, job_id: str, *, actor: str) -> Deleted:
        """The job, its scores, events, idempotency keys and study. Cached scores are no job's, and stay.

        Raises:
            JobNotFound, JobDeleted: there is no such job (any more).
            InvalidTransition: it has not ended.
            JobInUse: a job that has not ended needs it.
        """
        with self._database.transaction() as connection:
            row = lock_job(connection, job_id)
            _check_ended(row)
            check_unused(connection, job_id)
            return _delete(connection, row, actor)

    @retried()
    def among(self, job_ids: Collection[str]) -> frozenset[str]:
        """Those of `job_ids` whose jobs were deleted."""
        query = sa.select(tables.audit.c.subject).where(
            tables.audit.c.action == DELETED, tables.audit.c.subject.in_(job_ids)
        )
        with self._database.transaction() as connection:
            return frozenset(connection.execute(query).scalars())


def _check_ended(row: JobRow) -> None:
    if not JobState(row.state).is_final:
        raise InvalidTransition(
            f"only a job that has ended can be deleted, but {row.id} is {row.state}: "
            "cancel it first, and wait for its end"
        )


def check_unused(connection: sa.Connection, job_id: str) -> None:
    """Return when no unfinished job names this one.

    Raises:
        JobInUse: with those that do.
    """
    users = connection.execute(_USERS.order_by(jobs.c.id).limit(5), {"job_id": job_id}).scalars().all()
    if users:
        raise JobInUse(
            f"a job that others need stays until they have ended, but {job_id} is needed by {', '.join(users)}: "
            "cancel them first, or wait for their end"
        )


def _delete(connection: sa.Connection, row: JobRow, actor: str) -> Deleted:
    told: dict[str, Any] = {"kind": row.kind, "state": row.state, "created_at": row.created_at.isoformat()}
    audit.record(connection, actor, DELETED, row.id, **told)
    counting.keep(connection, row.id)
    gone = {
        table.name: connection.execute(sa.delete(table).where(table.c.job_id == row.id)).rowcount
        for table in (tables.document_scores, tables.deliveries, tables.events, tables.idempotency_keys)
    }
    trials = delete_study(connection, row.id) if row.kind == "search" else 0
    connection.execute(sa.delete(jobs).where(jobs.c.id == row.id))
    return Deleted(id=row.id, kind=row.kind, scores=gone["document_scores"], events=gone["events"], trials=trials)
