"""How a job comes to be: once per idempotency key, and one unfinished fine-tuning per search."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ropewalk.wire.kinds import JobKind
from storage.errors import IdempotencyConflict, InvalidTransition
from storage.jobs import events, requests
from storage.jobs.leases import JobRow, lock_job
from storage.postgres.tables import idempotency_keys, jobs
from storage.records import IdempotencyRequest, Scheduling


def insert_job(
    connection: sa.Connection,
    job_id: str,
    kind: JobKind,
    spec_json: str,
    labels: Sequence[tuple[str, str]],
    parent_id: str | None,
    creator: str | None = None,
    scheduling: Scheduling = Scheduling(),  # noqa: B008 (frozen)
) -> JobRow:
    """A new queued job with its event, which says who asked for it.

    Raises:
        JobNotFound, InvalidTransition: of the parent.
    """
    parent = None if parent_id is None else _checked_parent(connection, parent_id)
    values = {
        "id": job_id,
        "kind": kind,
        "spec_json": spec_json,
        "labels": dict(labels),
        "parent_id": parent_id,
        "owner": (scheduling.owner or creator) if parent is None else parent.owner,
        "priority": scheduling.priority if parent is None else parent.priority,
        "workers": scheduling.workers,
    }
    row = connection.execute(sa.insert(jobs).values(values).returning(*jobs.c)).one()
    events.record(connection, job_id, "job.created", kind=kind, parent_id=parent_id, creator=creator)
    return row


def _checked_parent(connection: sa.Connection, parent_id: str) -> JobRow:
    """A parent exists and waits for one child at most; its lock makes a second child wait for this answer."""
    parent = lock_job(connection, parent_id)
    live = requests.live_child(connection, parent_id)
    if live is not None:
        raise InvalidTransition(f"a search has one unfinished fine-tuning at most, but {parent_id} has {live}")
    return parent


def take_key(connection: sa.Connection, idempotency: IdempotencyRequest, kind: JobKind, job_id: str) -> JobRow | None:
    """Take the key for `job_id`, or give the job that has it. Waits for a transaction that is taking the same key.

    Raises:
        IdempotencyConflict: the key stands for another request.
    """
    request_hash = f"{kind}:{idempotency.request_hash}"
    mine = {"principal": idempotency.principal, "key": idempotency.key}
    statement = insert(idempotency_keys).values(**mine, request_hash=request_hash, job_id=job_id)
    taken = connection.execute(statement.on_conflict_do_nothing().returning(idempotency_keys.c.job_id)).one_or_none()
    if taken is not None:
        return None
    first = connection.execute(sa.select(idempotency_keys).filter_by(**mine)).one()
    if first.request_hash != request_hash:
        raise IdempotencyConflict(
            f"an idempotency key stands for one request, but {idempotency.key!r} was used for another: {first.job_id}"
        )
    return connection.execute(sa.select(jobs).where(jobs.c.id == first.job_id)).one()
