"""A job's append-only history. Who follows it reads on after the last id, again and again."""

from __future__ import annotations

import json

import sqlalchemy as sa

from storage.jobs.audit import not_found
from storage.postgres.database import Database
from storage.postgres.tables import events, jobs
from storage.records import Event


def append(connection: sa.Connection, job_id: str, type: str, data_json: str) -> Event:
    """A new event, visible with the transaction's commit.

    The caller holds the job's row locked (not shared), or has just inserted it: so ids grow in the order of commits,
    and whoever has read up to an id has missed none before it.
    """
    values = {"job_id": job_id, "type": type, "data_json": data_json}
    return _event(connection.execute(sa.insert(events).values(values).returning(*events.c)).one())


def record(connection: sa.Connection, job_id: str, type: str, **data: str | float | bool | None) -> Event:
    """`append` with the data as keywords; None is left out."""
    given = {key: value for key, value in data.items() if value is not None}
    return append(connection, job_id, type, json.dumps(given, separators=(",", ":")))


def read(database: Database, job_id: str, *, after: int, limit: int) -> tuple[Event, ...]:
    """Events with ids above `after`, oldest first. Raises: JobNotFound."""
    query = sa.select(events).where(events.c.job_id == job_id, events.c.id > after).order_by(events.c.id).limit(limit)
    with database.transaction() as connection:
        rows = connection.execute(query).all()
        if not rows and connection.execute(sa.select(jobs.c.id).where(jobs.c.id == job_id)).one_or_none() is None:
            raise not_found(connection, job_id)
    return tuple(_event(row) for row in rows)


def _event(row: sa.Row[tuple[object, ...]]) -> Event:
    return Event(id=row.id, job_id=row.job_id, type=row.type, data_json=row.data_json, created_at=row.created_at)
