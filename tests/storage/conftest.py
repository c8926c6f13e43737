"""Stores on the test's own database, and short ways to a claimed job."""

from __future__ import annotations

import pytest

from ropewalk.wire.kinds import JobKind, JobState
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import Lease
from tests.helpers.leases import PATHS, ClaimedJob


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
