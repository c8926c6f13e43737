"""Short ways to a claimed job, and to a lease that has run out."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from ropewalk.wire.kinds import JobState
from storage.postgres.database import Database
from storage.records import Lease

ClaimedJob = Callable[..., Lease]


PATHS: dict[JobState, tuple[JobState, ...]] = {
    JobState.queued: (),
    JobState.preparing: (JobState.preparing,),
    JobState.searching: (JobState.preparing, JobState.searching),
    JobState.validating: (JobState.preparing, JobState.searching, JobState.validating),
    JobState.training: (JobState.preparing, JobState.training),
}


def expire_lease(database: Database, job_id: str) -> None:
    """Let the lease's time run out, by the database's clock, at once."""
    statement = "UPDATE ropewalk.jobs SET lease_expires_at = clock_timestamp() - interval '1 ms' WHERE id = :id"
    with database.engine.begin() as connection:
        connection.execute(sa.text(statement), {"id": job_id})


def take_over(database: Database, job_id: str) -> None:
    """Let the lease's time run out, and "b" claim the job."""
    expire_lease(database, job_id)
    statement = (
        "UPDATE ropewalk.jobs SET lease_owner = 'b', lease_epoch = lease_epoch + 1, "
        "lease_expires_at = clock_timestamp() + interval '1 minute' WHERE id = :id"
    )
    with database.engine.begin() as connection:
        connection.execute(sa.text(statement), {"id": job_id})
