"""What users ask of a job: cancel, pause, resume. Doing it twice is doing it once."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ropewalk.wire.kinds import JobAction, JobState
from storage.errors import InvalidTransition
from storage.jobs import events
from storage.jobs.leases import JobRow, lock_job
from storage.jobs.rows import change, move
from storage.postgres.tables import jobs
from storage.transitions import ACTIVE, FINAL

S = JobState


def apply(connection: sa.Connection, job_id: str, action: JobAction) -> JobRow:
    """The job after the request; one that waits for another attempt has it at once.

    Raises:
        JobNotFound.
        InvalidTransition: the job's state does not allow it.
    """
    if action == "cancel":
        return _cancel_with_child(connection, job_id)
    row = lock_job(connection, job_id)
    return _pause(connection, row) if action == "pause" else _resume(connection, row)


def finish_parent(connection: sa.Connection, child: JobRow) -> None:
    """A fine-tuning has ended: the search that waits for it, if any, ends in the same way."""
    if child.parent_id is None:
        return
    parent = lock_job(connection, child.parent_id)
    if parent.state != S.finetuning:
        return
    error: dict[str, Any] = {}
    if child.state == S.failed:
        message = f"fine-tuning {child.id} failed: {child.error_code}: {child.error_message}"
        error = {"error_code": "FINETUNE_FAILED", "error_message": message}
    move(connection, parent, S(child.state), **error)


def _cancel_with_child(connection: sa.Connection, job_id: str) -> JobRow:
    """A fine-tuning is locked before the search that waits for it, here as at its end: no deadlock."""
    child_id = live_child(connection, job_id)
    if child_id is None:
        with connection.begin_nested() as savepoint:
            row = lock_job(connection, job_id)
            if row.state != S.finetuning:
                return _cancel(connection, row)
            savepoint.rollback()  # lets go of the lock: it was handed off while we waited, and the child comes first
        child_id = live_child(connection, job_id)
    if child_id is not None:
        _cancel(connection, lock_job(connection, child_id))
    return _cancel(connection, lock_job(connection, job_id))


def _cancel(connection: sa.Connection, row: JobRow) -> JobRow:
    if row.state in (S.cancelled, S.cancelling) or row.request == "cancel":
        return row
    if row.state in (S.queued, S.paused):
        cancelled = move(connection, row, S.cancelled)
        finish_parent(connection, cancelled)
        return cancelled
    if row.state in ACTIVE:
        return move(connection, row, S.cancelling, request="cancel", retry_at=None)
    if row.state == S.finetuning:  # goes on waiting, and is cancelled together with its fine-tuning
        events.record(connection, row.id, "cancel.requested")
        return change(connection, row.id, request="cancel")
    raise _refused(row, "cancel", "has not ended")


def _pause(connection: sa.Connection, row: JobRow) -> JobRow:
    if row.state == S.paused or (row.state in ACTIVE and row.request == "pause"):
        return row
    if row.state == S.queued:
        return move(connection, row, S.paused)
    if row.state in ACTIVE:
        events.record(connection, row.id, "pause.requested")
        return change(connection, row.id, request="pause", retry_at=None)
    raise _refused(row, "pause", "is queued or at work")


def _resume(connection: sa.Connection, row: JobRow) -> JobRow:
    if row.state == S.paused:
        return move(connection, row, S.queued, failures=0)
    if row.state in ACTIVE and row.request == "pause":
        events.record(connection, row.id, "pause.withdrawn")
        return change(connection, row.id, request="none")
    if row.state == S.queued or row.state in ACTIVE:
        return row if row.retry_at is None else change(connection, row.id, retry_at=None)
    raise _refused(row, "resume", "is paused")


def live_child(connection: sa.Connection, job_id: str) -> str | None:
    """The unfinished fine-tuning of a search."""
    query = sa.select(jobs.c.id).where(jobs.c.parent_id == job_id, jobs.c.state.not_in(FINAL))
    return connection.execute(query).scalar_one_or_none()


def _refused(row: JobRow, action: str, rule: str) -> InvalidTransition:
    return InvalidTransition(f"only a job that {rule} can {action}, but {row.id} is {row.state}")
