"""Jobs and their life: created, claimed, moved on and ended by short transactions, each with its event."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ropewalk.wire.kinds import JOB_KINDS, JobAction, JobKind, JobState
from storage.errors import InvalidTransition, LeaseLost
from storage.ids import new_job_id
from storage.jobs import audit, claims, conditions, events, listing, requests
from storage.jobs.creation import insert_job, take_key
from storage.jobs.leases import hold, lock_job, seconds_from_now
from storage.jobs.rows import change, job_from_row, move, progress_value
from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.postgres.tables import jobs
from storage.records import Condition, Created, Event, IdempotencyRequest, Job, Lease, Page, Progress, Scheduling
from storage.transitions import check_move

Labels = Mapping[str, str]


class JobStore:
    """The jobs of one database. Thread-safe; every method is one transaction.

    Whoever holds a job's lease writes for it: methods that take a `Lease` check owner, epoch and expiry by the
    database's clock in the transaction that writes, and raise `LeaseLost` without a trace when it is not held.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @retried(repeatable=False)
    def create(
        self,
        kind: JobKind,
        spec_json: str,
        labels: Sequence[tuple[str, str]] = (),
        parent_id: str | None = None,
        idempotency: IdempotencyRequest | None = None,
        creator: str | None = None,
        first_events: Sequence[tuple[str, str]] = (),
        scheduling: Scheduling = Scheduling(),  # noqa: B008 (frozen)
    ) -> Created:
        """A new queued job that `creator` asked for, with `first_events` (type, JSON text) in its history; or, with an
        idempotency key that was used before, the job of then (`replayed`).

        Raises:
            IdempotencyConflict: the key was used for a request with another hash or kind.
            JobNotFound, InvalidTransition: the parent does not exist, or has an unfinished fine-tuning.
        """
        with self._database.transaction() as connection:
            job_id = new_job_id(kind)
            if idempotency is not None:
                first = take_key(connection, idempotency, kind, job_id)
                if first is not None:
                    return Created(job=job_from_row(first), replayed=True)
            row = insert_job(connection, job_id, kind, spec_json, labels, parent_id, creator, scheduling)
            if creator is not None:
                audit.record(connection, creator, "job.submitted", job_id, priority=scheduling.priority or None)
            for type, data_json in first_events:
                events.append(connection, job_id, type, data_json)
            return Created(job=job_from_row(row), replayed=False)

    @retried()
    def get(self, job_id: str) -> Job:
        """Raises: JobNotFound."""
        with self._database.transaction() as connection:
            row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).one_or_none()
            if row is None:
                raise audit.not_found(connection, job_id)
        return job_from_row(row)

    @retried()
    def owner(self, job_id: str) -> str | None:
        """Who submitted the job, or the search that handed it off; None where there is no such job, or nobody knows."""
        with self._database.transaction() as connection:
            return connection.execute(sa.select(jobs.c.owner).where(jobs.c.id == job_id)).scalar_one_or_none()

    @retried()
    def list(
        self,
        kind: JobKind,
        *,
        state: JobState | None = None,
        label: tuple[str, str] | None = None,
        owner: str | None = None,
        limit: int = 20,
        page_token: str | None = None,
    ) -> Page[Job]:
        """Newest first. Raises: UnknownPageToken, also for a token of other filters."""
        chosen = listing.JobFilter(kind=kind, state=state, label=label, owner=owner)
        with self._database.transaction() as connection:
            return listing.list_jobs(connection, chosen, limit=limit, page_token=page_token)

    @retried(repeatable=False)
    def claim(
        self,
        owner: str,
        lease_seconds: float,
        kinds: Sequence[JobKind] | None = None,
        *,
        running: Collection[str] = (),
    ) -> tuple[Job, Lease] | None:
        """The job whose turn it is among those that are queued, or active without a live lease, now under a new lease;
        or None: `claims` says which. A job that was requeued after a failure is left alone until its time has come, and
        so are those that the claimer has `running`: it will renew their leases when it gets to it.
        """
        with self._database.transaction() as connection:
            row = claims.claim(connection, owner, lease_seconds, kinds or JOB_KINDS, running, self._database.outages)
        if row is None:
            return None
        return job_from_row(row), Lease(job_id=row.id, owner=owner, epoch=row.lease_epoch)

    @retried()
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

    @retried()
    def release(self, lease: Lease) -> bool:
        """Give the lease up, so that anybody may claim the job at once; False if it was lost already."""
        statement = sa.update(jobs).where(*_held_by(lease)).values(lease_owner=None, lease_expires_at=None)
        with self._database.transaction() as connection:
            if connection.execute(statement.returning(jobs.c.id)).one_or_none() is None:
                return False
            events.record(connection, lease.job_id, "job.released", owner=lease.owner, epoch=lease.epoch)
        return True

    @retried(repeatable=False)
    def put_back(self, lease: Lease, why: Condition, *, failures: int, retry_in: float | None) -> Job:
        """End the lease because the infrastructure failed `failures` times since the last accepted score: the job may
        be claimed again in `retry_in` seconds, by anybody; None: it is paused until the user resumes it.

        Raises:
            LeaseLost.
        """
        with self._database.transaction() as connection:
            return job_from_row(claims.put_back(connection, lease, why, failures, retry_in))

    @retried()
    def set_conditions(self, lease: Lease, *found: Condition) -> None:
        """What the controller sees now; changes of status or reason become events. Raises: LeaseLost."""
        with self._database.transaction() as connection:
            row = hold(connection, lease)
            value = conditions.merged(row.conditions, found, row.db_now)
            if value != row.conditions:
                change(connection, row.id, conditions=value)
                conditions.record_changes(connection, row, found)

    def tell_of_outage(self, lease: Lease, *, since_seconds: float) -> None:
        """Show for how long the database was away, if it has come back within `since_seconds`. Raises: LeaseLost."""
        outage = self._database.outages.around(0.0, grace=since_seconds)
        if outage is not None:
            self.set_conditions(lease, conditions.reachable(lease.owner, outage))

    @retried(repeatable=False)
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
        values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
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

    @retried()
    def update_progress(self, lease: Lease, progress: Progress) -> Job:
        """Raises: LeaseLost."""
        with self._database.transaction() as connection:
            row = hold(connection, lease)
            return job_from_row(change(connection, row.id, progress=progress_value(progress)))

    @retried(repeatable=False)
    def append_event(self, lease: Lease, type: str, data_json: str) -> Event:
        """Raises: LeaseLost."""
        with self._database.transaction() as connection:
            hold(connection, lease)
            return events.append(connection, lease.job_id, type, data_json)

    @retried()
    def request(self, job_id: str, action: JobAction, *, actor: str | None = None) -> Job:
        """What the user asks for; doing it twice is doing it once.

        cancel: a queued or paused job ends at once; an active one becomes cancelling and its controller ends it.
            A search that waits for its fine-tuning cancels that.
        pause: a queued job pauses at once; an active one when its controller sees the request.
        resume: a paused job goes back into the queue; a pause that was not yet obeyed is withdrawn.

        Raises:
            JobNotFound, InvalidTransition (with the current state).
        """
        with self._database.transaction() as connection:
            row = requests.apply(connection, job_id, action)
            if actor is not None:
                audit.record(connection, actor, f"job.{action}", job_id)
            return job_from_row(row)

    @retried(repeatable=False)
    def relabel(
        self, job_id: str, changes: Mapping[str, str | None], respec: Callable[[str, Labels], str], *, actor: str
    ) -> Job:
        """The job with its labels as `changes` says (None: without), in its spec too, which `respec` writes anew. What
        was there before is in no row any more. Raises: JobNotFound, and what `respec` raises."""
        with self._database.transaction() as connection:
            row = lock_job(connection, job_id)
            labels = {name: text for name, text in {**row.labels, **changes}.items() if text is not None}
            audit.record(connection, actor, "job.labelled", job_id, labels=len(labels))
            return job_from_row(change(connection, row.id, labels=labels, spec_json=respec(row.spec_json, labels)))

    @retried()
    def prioritize(self, job_id: str, priority: int, *, actor: str) -> Job:
        """Let the job be claimed before those with a lesser priority, from its next claim on. Raises: JobNotFound."""
        with self._database.transaction() as connection:
            row = lock_job(connection, job_id)
            audit.record(connection, actor, "job.prioritized", job_id, priority=priority)
            return job_from_row(change(connection, row.id, priority=priority))

    @retried(repeatable=False)
    def hand_off(self, lease: Lease, finetune_spec_json: str, result_json: str, *, workers: int = 1) -> Job:
        """The search's result, its move to finetuning, the end of its lease and the new fine-tuning job, which is
        returned, in one transaction. Raises: LeaseLost, InvalidTransition."""
        with self._database.transaction() as connection:
            row = hold(connection, lease)
            check_move(row.kind, row.id, JobState(row.state), JobState.finetuning)
            moved = move(connection, row, JobState.finetuning, result_json=result_json)
            child_id = new_job_id("finetune")
            labels = job_from_row(moved).labels
            child = insert_job(
                connection,
                child_id,
                "finetune",
                finetune_spec_json,
                labels,
                row.id,
                scheduling=Scheduling(workers=workers),
            )
            events.record(connection, row.id, "finetune.created", finetune_id=child_id)
        return job_from_row(child)

    @retried()
    def events(self, job_id: str, after: int = 0, limit: int = 200) -> tuple[Event, ...]:
        """The job's events with ids above `after`, oldest first. Raises: JobNotFound."""
        return events.read(self._database, job_id, after=after, limit=limit)


def _held_by(lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        jobs.c.id == lease.job_id,
        jobs.c.lease_owner == lease.owner,
        jobs.c.lease_epoch == lease.epoch,
    )
