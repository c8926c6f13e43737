"""Stores on the test's own database, and short ways to a claimed job."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import JobKind, JobState, Lease

ClaimedJob = Callable[..., Lease]
PATHS: dict[JobState, tuple[JobState, ...]] = {
    JobState.queued: (),
    JobState.preparing: (JobState.preparing,),
    JobState.searching: (JobState.preparing, JobState.searching),
    JobState.validating: (JobState.preparing, JobState.searching, JobState.validating),
    JobState.training: (JobState.preparing, JobState.training),
}


@pytest.fixture
def store(database: Database) -> JobStore:
    return JobStore(database)


@pytest.fixture
def claimed_job(store: JobStore) -> ClaimedJob:
    """Makes a job, claims it and moves it to a state."""

    def make(
        state: JobState = JobState.queued, *, kind: JobKind = "search", owner: str = "a", seconds: float = 60
    ) -> Lease:
        store.create(kind, "{}")
        claimed = store.claim(owner, seconds)
        assert claimed is not None
        for step in PATHS[state]:
            store.transition(claimed[1], step)
        return claimed[1]

    return make


def expire_lease(database: Database, job_id: str) -> None:
    """Let the lease's time run out, by the database's clock, at once."""
    statement = "UPDATE ropewalk.jobs SET lease_expires_at = clock_timestamp() - interval '1 ms' WHERE id = :id"
    with database.engine.begin() as connection:
        connection.execute(sa.text(statement), {"id": job_id})
