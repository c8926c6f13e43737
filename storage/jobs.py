"""Jobs and their life: created, claimed, moved on and ended by short transactions, each with its event."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from storage import events, listing, requests
from storage.database import Database
from storage.errors import IdempotencyConflict, InvalidTransition, JobNotFound, LeaseLost
from storage.ids import new_job_id
from storage.leases import JobRow, hold, lock_job, now, seconds_from_now
from storage.records import (
    JOB_KINDS,
    Created,
    Event,
    IdempotencyRequest,
    Job,
    JobAction,
    JobKind,
    JobState,
    Lease,
    Page,
    Progress,
)
from storage.rows import change, job_from_row, move, progress_value
from storage.tables import idempotency_keys, jobs
from storage.transitions import CLAIMABLE, check_move


class JobStore:
    """The jobs of one database. Thread-safe; every method is one transaction.

    Whoever holds a job's lease writes for it: methods that take a `Lease` check owner, epoch and expiry by the
    database's clock in the transaction that writes, and raise `LeaseLost` without a trace when it is not held.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        kind: JobKind,
        spec_json: str,
        labels: Sequence[tuple[str, str]] = (),
        parent_id: str | None = None,
        idempotency: IdempotencyRequest | None = None,
    ) -> Created:
        """A new queued job; or, with an idempotency key that was used before, the job of then (`replayed`).

        Raises:
            IdempotencyConflict: the key was used for a request with another hash or kind.
            JobNotFound, InvalidTransition: the parent does not exist, or has an unfinished fine-tuning.
        """
        with self._database.transaction() as connection:
            job_id = new_job_id(kind)
            if idempotency is not None:
                first = _take_key(connection, idempotency, kind, job_id)
                if first is not None:
                    return Created(job=job_from_row(first), replayed=True)
            row = _insert(connection, job_id, kind, spec_json, labels, parent_id)
            return Created(job=job_from_row(row), replayed=False)

    def get(self, job_id: str) -> Job:
        """Raises: JobNotFound."""
        with self._database.transaction() as connection:
            row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise JobNotFound(f"a job must exist, but there is no {job_id!r}")
        return job_from_row(row)

    def list(
        self,
        kind: JobKind,
        *,
        state: JobState | None = None,
        label: tuple[str, str] | None = None,
        limit: int = 20,
        page_token: str | None = None,
    ) -> Page[Job]:
        """Newest first. Raises: UnknownPageToken, also for a token of other filters."""
        chosen = listing.JobFilter(kind=kind, state=state, label=label)
        with self._database.transaction() as connection:
            return listing.list_jobs(connection, chosen, limit=limit, page_token=page_token)

    def claim(
        self, owner: str, lease_seconds: float, kinds: Sequence[JobKind] | None = None
    ) -> tuple[Job, Lease] | None:
        """The oldest job that is queued, or active without a live lease, now under a new lease; or None."""
        with self._database.transaction() as connection:
            job_id = connection.execute(_oldest_claimable(kinds or JOB_KINDS)).scalar_one_or_none()
            if job_id is None:
                return None
            statement = sa.update(jobs).where(jobs.c.id == job_id)
            statement = statement.values(
                lease_owner=owner,
                lease_epoch=jobs.c.lease_epoch + 1,
                lease_expires_at=seconds_from_now(lease_seconds),
                started_at=sa.func.coalesce(jobs.c.started_at, now),
                updated_at=now,
                version=jobs.c.version + 1,
            )
            job = job_from_row(connection.execute(statement.returning(*jobs.c)).one())
            events.record(connection, job.id, "job.claimed", owner=owner, epoch=job.lease_epoch, state=job.state.value)
            return job, Lease(job_id=job.id, owner=owner, epoch=job.lease_epoch)

    def renew(self, lease: Lease, lease_seconds: float) -> Job:
        """Extend the lease; the job returned shows what the user asked for (`request`). Raises: LeaseLost."""
        statement = sa.update(jobs).where(*_held_by(lease))
        statement = statement.values(lease_expires_at=seconds_from_now(lease_seconds)).returning(*jobs.c)
        with self._database.transaction() as connection:
            row = connection.execute(statement).one_or_none()
            if row is None:
                hold(connection, lease)  # says why
                raise LeaseLost(f"{lease.job_id} was lost by {lease.owner} at epoch {lease.epoch}")
        return job_from_row(row)

    def release(self, lease: Lease) -> bool:
        """Give the lease up, so that anybody may claim the job at once; False if it was lost already."""
        statement = sa.update(jobs).where(*_held_by(lease)).values(lease_owner=None, lease_expires_at=None)
        with self._database.transaction() as connection:
            if connection.execute(statement.returning(jobs.c.id)).one_or_none() is None:
                return False
            events.record(connection, lease.job_id, "job.released", owner=lease.owner, epoch=lease.epoch)
        return True

    def transition(
        self,
        lease: Lease,
        state: JobState,
        *,
        progress: Progress | None = None,
        result_json: str | None = None,
        error_code: str | None = None,
        error_message: str | None = None,
    ) -> Job:
        """Move the job to `state`; final states and `paused` end the lease.

        A fine-tuning that ends takes the search that waits for it (state finetuning) along, in the same transaction.
        Moving to `paused` after the user withdrew the pause puts the job back into the queue.

        Raises:
            LeaseLost: the lease is not held.
            InvalidTransition: not in the table, e.g. to succeeded after the user cancelled.
        """
        given = {"result_json": result_json, "error_code": error_code, "error_message": error_message}
        if (state == JobState.failed) != (error_code is not None and error_message is not None):
            raise InvalidTransition(f"failed, and only failed, carries an error, but got {state} with {error_code!r}")
        values: dict[str, object] = {name: value for name, value in given.items() if value is not None}
        if progress is not None:
            values["progress"] = progress_value(progress)
        with self._database.transaction() as connection:
            row = hold(connection, lease)
            check_move(row.kind, row.id, JobState(row.state), state)
            if state == JobState.paused and row.request != "pause":
                state, values = JobState.queued, values | {"lease_owner": None, "lease_expires_at": None}
            moved = move(connection, row, state, **values)
            if state.is_final:
                requests.finish_parent(connection, moved)
        return job_from_row(moved)

    def update_progress(self, lease: Lease, progress: Progress) -> Job:
        """Raises: LeaseLost."""
        with self._database.transaction() as connection:
            row = hold(connection, lease)
            return job_from_row(change(connection, row.id, progress=progress_value(progress)))

    def append_event(self, lease: Lease, type: str, data_json: str) -> Event:
        """Raises: LeaseLost."""
        with self._database.transaction() as connection:
            hold(connection, lease)
            return events.append(connection, lease.job_id, type, data_json)

    def request(self, job_id: str, action: JobAction) -> Job:
        """What the user asks for; doing it twice is doing it once.

        cancel: a queued or paused job ends at once; an active one becomes cancelling and its controller ends it.
            A search that waits for its fine-tuning cancels that.
        pause: a queued job pauses at once; an active one when its controller sees the request.
        resume: a paused job goes back into the queue; a pause that was not yet obeyed is withdrawn.

        Raises:
            JobNotFound, InvalidTransition (with the current state).
        """
        with self._database.transaction() as connection:
            return job_from_row(requests.apply(connection, job_id, action))

    def hand_off(self, lease: Lease, finetune_spec_json: str, result_json: str) -> Job:
        """The search's result, its move to finetuning, the end of its lease and the new fine-tuning job, which is
        returned, in one transaction. Raises: LeaseLost, InvalidTransition."""
        with self._database.transaction() as connection:
            row = hold(connection, lease)
            check_move(row.kind, row.id, JobState(row.state), JobState.finetuning)
            moved = move(connection, row, JobState.finetuning, result_json=result_json)
            child_id = new_job_id("finetune")
            labels = job_from_row(moved).labels
            child = _insert(connection, child_id, "finetune", finetune_spec_json, labels, parent_id=row.id)
            events.record(connection, row.id, "finetune.created", finetune_id=child_id)
        return job_from_row(child)

    def events(self, job_id: str, after: int = 0, limit: int = 200) -> tuple[Event, ...]:
        """The job's events with ids above `after`, oldest first. Raises: JobNotFound."""
        return events.read(self._database, job_id, after=after, limit=limit)

    def wait_for_events(self, job_id: str, after: int, timeout_seconds: float, limit: int = 200) -> tuple[Event, ...]:
        """Like `events`, but waits up to `timeout_seconds` for the first one; empty when none came."""
        return events.wait(self._database, job_id, after=after, timeout_seconds=timeout_seconds, limit=limit)


def _insert(
    connection: sa.Connection,
    job_id: str,
    kind: JobKind,
    spec_json: str,
    labels: Sequence[tuple[str, str]],
    parent_id: str | None,
) -> JobRow:
    values = {"id": job_id, "kind": kind, "spec_json": spec_json, "labels": dict(labels), "parent_id": parent_id}
    if parent_id is not None:
        _check_parent(connection, parent_id)
    row = connection.execute(sa.insert(jobs).values(values).returning(*jobs.c)).one()
    events.record(connection, job_id, "job.created", kind=kind, parent_id=parent_id)
    return row


def _check_parent(connection: sa.Connection, parent_id: str) -> None:
    """A parent exists and waits for one child at most; its lock makes a second child wait for this answer."""
    lock_job(connection, parent_id)
    live = requests.live_child(connection, parent_id)
    if live is not None:
        raise InvalidTransition(f"a search has one unfinished fine-tuning at most, but {parent_id} has {live}")


def _take_key(connection: sa.Connection, idempotency: IdempotencyRequest, kind: JobKind, job_id: str) -> JobRow | None:
    """Take the key for `job_id`, or give the job that has it. Waits for a transaction that is taking the same key."""
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


def _oldest_claimable(kinds: Sequence[JobKind]) -> sa.Select[tuple[str]]:
    free = sa.or_(jobs.c.lease_expires_at.is_(None), jobs.c.lease_expires_at <= now)
    query = sa.select(jobs.c.id).where(jobs.c.kind.in_(kinds), jobs.c.state.in_(CLAIMABLE), free)
    return query.order_by(jobs.c.created_at, jobs.c.id).limit(1).with_for_update(skip_locked=True, key_share=True)


def _held_by(lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        jobs.c.id == lease.job_id,
        jobs.c.lease_owner == lease.owner,
        jobs.c.lease_epoch == lease.epoch,
        jobs.c.lease_expires_at > now,
    )
