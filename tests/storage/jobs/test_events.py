"""The history: ordered, append-only, and told at once to those who wait."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from ropewalk.wire.kinds import JobState
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from tests.helpers.http_server import add_trials, claimed_search
from tests.helpers.leases import ClaimedJob


def test_every_step_is_in_the_history_in_order(store: JobStore, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(JobState.preparing)
    store.append_event(lease, "note", '{"x":0.1}')
    store.request(lease.job_id, "pause")
    events = store.events(lease.job_id)
    assert [event.type for event in events] == [
        "job.created",
        "job.claimed",
        "condition.changed",
        "state.changed",
        "note",
        "pause.requested",
    ]
    assert events[4].data_json == '{"x":0.1}'
    assert [event.id for event in events] == sorted(event.id for event in events)
    assert store.events(lease.job_id, after=events[3].id) == events[4:]
    assert store.events(lease.job_id, limit=2) == events[:2]


def test_a_reader_that_follows_the_ids_misses_nothing(store: JobStore, claimed_job: ClaimedJob) -> None:
    """Ids are given before the commit; those of one job must become visible in their order nonetheless."""
    lease = claimed_job(JobState.preparing)
    done = threading.Event()

    def follow() -> list[int]:
        seen: list[int] = []
        while True:
            finished = done.is_set()
            seen += [event.id for event in store.events(lease.job_id, after=seen[-1] if seen else 0)]
            if finished:
                return seen

    with ThreadPoolExecutor(5) as pool:
        reader = pool.submit(follow)
        writers = [pool.submit(lambda: [store.append_event(lease, "e", "{}") for _ in range(15)]) for _ in range(4)]
        for writer in writers:
            writer.result(timeout=30)
        done.set()
        seen = reader.result(timeout=30)
    assert seen == [event.id for event in store.events(lease.job_id, limit=1000)]


@pytest.mark.parametrize("change", ["UPDATE {} SET job_id = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.parametrize("table", ["ropewalk.events", "ropewalk.document_scores"])
def test_history_and_scores_are_append_only(change: str, table: str, database: Database) -> None:
    add_trials(database, claimed_search(JobStore(database)), scored=1)
    refused = "only ever added|go only with their job"
    with pytest.raises(sa.exc.IntegrityError, match=refused), database.engine.begin() as connection:
        connection.execute(sa.text(change.format(table)))
