"""What each owner may have at once. The claims of jobs keep to it (`storage/jobs/claims.py`), and so does any number of
controllers; what is stored is looked at when a job is submitted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ropewalk.wire.kinds import WAITING_FOR_OWNER as WAITING
from storage.jobs import audit
from storage.jobs.claims import held_back
from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.postgres.tables import EVERY_KEY, LOCAL, jobs, owner_limits
from storage.records import Condition, Job, Limits


class OwnerLimits:
    """Of one database. Thread-safe. Owners are named as jobs name them; EVERY_KEY: all but
    LOCAL, the token, that have no limits of their own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retried()
    def set(self, owner: str, limits: Limits, *, actor: str) -> None:
        """Replace an owner's limits; without any the row goes."""
        values = {name: getattr(limits, name) for name in ("running_jobs", "workers", "stored_bytes")}
        with self._database.transaction() as connection:
            if limits == Limits():
                connection.execute(sa.delete(owner_limits).where(owner_limits.c.owner == owner))
            else:
                statement = insert(owner_limits).values(owner=owner, **values)
                connection.execute(statement.on_conflict_do_update(index_elements=["owner"], set_=values))
            audit.record(connection, actor, "limits.set", owner, **values)

    @retried()
    def of(self, owner: str) -> Limits:
        """What holds for an owner."""
        names = [owner] if owner == LOCAL else [owner, EVERY_KEY]
        query = sa.select(owner_limits).where(owner_limits.c.owner.in_(names))
        with self._database.transaction() as connection:
            found = {row.owner: _limits(row) for row in connection.execute(query)}
        return next((found[name] for name in names if name in found), Limits())

    @retried()
    def held_back(self, job: Job) -> Job:
        """The job; where it waits for others of its owner, `Progressing` says so, with both numbers."""
        with self._database.transaction() as connection:
            message = held_back(connection, job.id)
        if message is None:
            return job
        why = Condition(type="Progressing", status=False, reason=WAITING, message=message, changed_at=job.updated_at)
        others = tuple(one for one in job.conditions if one.type != why.type)
        return replace(job, conditions=tuple(sorted((*others, why), key=lambda one: one.type)))

    @retried()
    def all(self) -> dict[str, Limits]:
        """Every row, by owner."""
        with self._database.transaction() as connection:
            rows = connection.execute(sa.select(owner_limits).order_by(owner_limits.c.owner))
            return {row.owner: _limits(row) for row in rows}

    @retried()
    def owned(self, owner: str, job_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `job_ids` that are the owner's."""
        query = sa.select(jobs.c.id).where(jobs.c.id.in_(job_ids), jobs.c.owner == owner)
        with self._database.transaction() as connection:
            return tuple(connection.execute(query).scalars())


def _limits(row: sa.Row[Any]) -> Limits:
    return Limits(running_jobs=row.running_jobs, workers=row.workers, stored_bytes=row.stored_bytes)
