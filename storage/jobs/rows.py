"""Rows of the jobs table as values, and the one way in which a row changes its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import sqlalchemy as sa

from ropewalk.wire.kinds import JobState
from storage.jobs import conditions, events
from storage.jobs.leases import JobRow, now
from storage.postgres.tables import jobs
from storage.records import Condition, Job, Progress
from storage.transitions import UNLEASED

_PROGRESS = frozenset(field.name for field in fields(Progress))


def job_from_row(row: JobRow) -> Job:
    """The job of a row."""
    return Job(
        id=row.id,
        kind=row.kind,
        state=JobState(row.state),
        spec_json=row.spec_json,
        labels=tuple(sorted(row.labels.items())),
        parent_id=row.parent_id,
        request=row.request,
        progress=progress_from(row.progress),
        result_json=row.result_json,
        error_code=row.error_code,
        error_message=row.error_message,
        created_at=row.created_at,
        updated_at=row.updated_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        lease_owner=row.lease_owner,
        lease_epoch=row.lease_epoch,
        lease_expires_at=row.lease_expires_at,
        version=row.version,
        conditions=conditions.from_column(row.conditions),
        failures=row.failures,
        retry_at=row.retry_at,
        owner=row.owner,
        priority=row.priority,
    )


def progress_from(value: Mapping[str, Any]) -> Progress:
    """The progress of a column; what a newer controller writes beside is not for this version."""
    return Progress(**{name: one for name, one in value.items() if name in _PROGRESS})


def progress_value(progress: Progress) -> dict[str, Any]:
    """The progress as its column holds it."""
    return asdict(progress)


def change(connection: sa.Connection, job_id: str, **values: Any) -> JobRow:
    """Write columns of a locked row; the version grows."""
    statement = sa.update(jobs).where(jobs.c.id == job_id)
    statement = statement.values(version=jobs.c.version + 1, updated_at=now, **values)
    return connection.execute(statement.returning(*jobs.c)).one()


def move(
    connection: sa.Connection, row: JobRow, state: JobState, *, why: Condition | None = None, **values: Any
) -> JobRow:
    """Write a locked row's new state with its event. States that nobody works in end the lease and fulfil requests, and
    keep one condition: that of their rest, or `why`; final ones are stamped with the time."""
    if state in UNLEASED:
        values |= {"lease_owner": None, "lease_expires_at": None, "retry_at": None, "request": "none"}
    if state.is_final:
        values["finished_at"] = now
    rests = why or conditions.resting(state)
    if rests is not None:
        values["conditions"] = conditions.merged({}, [rests], row.db_now)
    moved = change(connection, row.id, state=state.value, **values)
    if state != row.state:
        error = {"error_code": moved.error_code, "error_message": moved.error_message}
        events.record(connection, row.id, "state.changed", **{"from": row.state, "to": state.value, **error})
    return moved
