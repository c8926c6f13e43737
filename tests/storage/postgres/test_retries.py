"""Transient errors are retried, with a bound, and never where what was done might be done twice."""

from __future__ import annotations

from itertools import islice

import pytest

from ropewalk.wire.kinds import JobState
from storage.errors import DatabaseUnreachable, LeaseLost
from storage.jobs.store import JobStore
from storage.postgres import retries
from storage.postgres.database import Database
from storage.postgres.retries import pauses, retried
from storage.records import Progress
from tests.helpers.leases import ClaimedJob
from tests.helpers.postgres import ending_sessions


class Failing:
    """Fails `times` times; says how often it was called."""

    def __init__(self, times: int, *, outcome_unknown: bool = False) -> None:
        self.calls = 0
        self._times = times
        self._outcome_unknown = outcome_unknown

    def _fail(self) -> int:
        self.calls += 1
        if self.calls <= self._times:
            error = DatabaseUnreachable("gone")
            error.outcome_unknown = self._outcome_unknown
            raise error
        return self.calls

    repeatable = retried()(_fail)
    once = retried(repeatable=False)(_fail)


def test_a_moment_is_waited_out_and_an_outage_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Failing(3).repeatable() == 4
    assert Failing(3).once() == 4
    monkeypatch.setattr(retries, "PATIENCE", 0.2)
    failing = Failing(1000)
    with pytest.raises(DatabaseUnreachable, match="gone"):
        failing.repeatable()
    assert 2 <= failing.calls <= 10


def test_what_may_have_been_done_is_done_again_only_where_that_is_harmless() -> None:
    assert Failing(1, outcome_unknown=True).repeatable() == 2
    failing = Failing(1, outcome_unknown=True)
    with pytest.raises(DatabaseUnreachable):
        failing.once()
    assert failing.calls == 1


def test_other_errors_are_not_retried(claimed_job: ClaimedJob, store: JobStore) -> None:
    lease = claimed_job(JobState.searching)
    store.release(lease)
    with pytest.raises(LeaseLost):
        store.update_progress(lease, Progress())


def test_pauses_grow_to_a_bound_and_differ() -> None:
    found = [list(islice(pauses(first=1.0, longest=4.0), 5)) for _ in range(20)]
    bounds = ((0.5, 1), (1, 2), (2, 4), (2, 4), (2, 4))
    assert all(low <= pause <= high for row in found for pause, (low, high) in zip(row, bounds, strict=True))
    assert len({row[0] for row in found}) > 10


def test_writes_go_on_while_every_session_is_ended(
    database: Database,
    database_url: str,
    store: JobStore,
    claimed_job: ClaimedJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retries, "PATIENCE", 60.0)  # on a busy machine a transaction takes longer than a session lives
    lease = claimed_job(JobState.searching)
    with ending_sessions(database_url, every_seconds=0.05):
        for number in range(60):
            store.update_progress(lease, Progress(trials=number))
            assert store.get(lease.job_id).progress.trials == number
