"""A job's append-only history. Rows are the truth; the notification is only a wake-up."""

from __future__ import annotations

import json
import time

import sqlalchemy as sa

from storage.database import Database
from storage.errors import JobNotFound
from storage.records import Event
from storage.schema_names import EVENTS_CHANNEL
from storage.tables import events, jobs

POLL_INTERVAL = 1.0  # seconds: the longest that a lost wake-up can delay an event


def append(connection: sa.Connection, job_id: str, type: str, data_json: str) -> Event:
    """A new event, visible with the transaction's commit, which also wakes those who wait.

    The caller holds the job's row locked (not shared), or has just inserted it: so ids grow in the order of commits,
    and whoever has read up to an id has missed none before it.
    """
    values = {"job_id": job_id, "type": type, "data_json": data_json}
    inserted = sa.insert(events).values(values).returning(*events.c).cte("inserted")
    row = connection.execute(sa.select(inserted, sa.func.pg_notify(EVENTS_CHANNEL, job_id).label("notified"))).one()
    return _event(row)


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
            raise JobNotFound(f"a job must exist, but there is no {job_id!r}")
    return tuple(_event(row) for row in rows)


def wait(database: Database, job_id: str, *, after: int, timeout_seconds: float, limit: int) -> tuple[Event, ...]:
    """`read`, again and again until there is something or the time is over; no connection is held while waiting."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        seen = database.notifications.count(job_id)
        found = read(database, job_id, after=after, limit=limit)
        left = deadline - time.monotonic()
        if found or left <= 0:
            return found
        database.notifications.wait(job_id, seen, min(left, POLL_INTERVAL))


def _event(row: sa.Row[tuple[object, ...]]) -> Event:
    return Event(id=row.id, job_id=row.job_id, type=row.type, data_json=row.data_json, created_at=row.created_at)
