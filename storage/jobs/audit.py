"""Who did what, for good: rows that outlive the jobs and the keys that they are about. No text that a user chose is in
them, since nobody could take it out again."""

from __future__ import annotations

import json

import sqlalchemy as sa

from storage.errors import JobDeleted, JobNotFound
from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.postgres.tables import DELETED, audit
from storage.records import AuditEntry


def record(connection: sa.Connection, actor: str, action: str, subject: str, **data: str | float | None) -> None:
    """A new row, visible with the transaction's commit; None is left out of the data."""
    given = {key: value for key, value in data.items() if value is not None}
    values = {"actor": actor, "action": action, "subject": subject}
    connection.execute(sa.insert(audit).values(**values, data_json=json.dumps(given, separators=(",", ":"))))


def not_found(connection: sa.Connection, job_id: str) -> JobNotFound:
    """What to raise where there is no job `job_id`: it says whether there was one."""
    query = sa.select(audit).where(audit.c.subject == job_id, audit.c.action == DELETED)
    row = connection.execute(query).one_or_none()
    if row is None:
        return JobNotFound(f"a job must exist, but there is no {job_id!r}")
    when = row.created_at.isoformat(timespec="seconds")
    return JobDeleted(f"a job must exist, but {row.actor} deleted {job_id} at {when}")


@retried()
def read(
    database: Database, *, subject: str | None = None, actor: str | None = None, before: int | None = None, limit: int
) -> tuple[AuditEntry, ...]:
    """Entries with ids below `before`, newest first."""
    query = sa.select(audit)
    for column, value in ((audit.c.subject, subject), (audit.c.actor, actor)):
        query = query if value is None else query.where(column == value)
    query = query if before is None else query.where(audit.c.id < before)
    with database.transaction() as connection:
        rows = connection.execute(query.order_by(audit.c.id.desc()).limit(limit)).all()
    return tuple(
        AuditEntry(
            id=row.id,
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            data_json=row.data_json,
            created_at=row.created_at,
        )
        for row in rows
    )
