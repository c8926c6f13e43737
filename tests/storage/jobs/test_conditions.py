"""Conditions, take-overs and jobs that are put back: what is shown of them, and when they may be claimed."""

from __future__ import annotations

import json
import re
import time
from datetime import timedelta

import pytest
import sqlalchemy as sa

from ropewalk.wire.kinds import JobState
from storage.errors import DatabaseUnreachable
from storage.jobs.statistics import read_statistics
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.postgres.outages import Outages
from storage.records import Condition, Event, Job, Lease
from tests.helpers.leases import ClaimedJob, expire_lease

S = JobState
BROKEN = Condition(type="Progressing", status=False, reason="WorkerLost", message="it died")
READY = Condition(type="WorkersReady", status=True, reason="Ready", message="on cpu")

CONNECTED = {"DatabaseReachable": (True, "Connected")}


def shown(job: Job) -> dict[str, tuple[bool, str]]:
    return {one.type: (one.status, one.reason) for one in job.conditions}


def last_event(store: JobStore, job_id: str, type: str) -> Event:
    return [event for event in store.events(job_id) if event.type == type][-1]


def test_a_claim_and_a_take_over_say_who_and_why(database: Database, store: JobStore, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(S.searching, owner="a")
    assert shown(store.get(lease.job_id)) == {"Progressing": (True, "Claimed"), **CONNECTED}
    expire_lease(database, lease.job_id)
    claimed = store.claim("b", 60)
    assert claimed is not None
    assert shown(claimed[0]).items() >= CONNECTED.items()
    condition = claimed[0].conditions[1]
    assert (condition.status, condition.reason) == (True, "TakenOver")
    assert condition.message.startswith("b took over from a, whose lease had expired 0.")
    told = json.loads(last_event(store, lease.job_id, "job.taken_over").data_json)
    assert (told["owner"], told["previous_owner"], told["epoch"]) == ("b", "a", lease.epoch + 1)
    assert told["expired_at"]


def test_the_time_is_that_of_the_last_change_of_status_or_reason(store: JobStore, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(S.searching)
    store.set_conditions(lease, READY)
    first = store.get(lease.job_id)
    store.set_conditions(lease, READY)
    assert store.get(lease.job_id).version == first.version, "the same again is no change"
    store.set_conditions(lease, Condition(type="WorkersReady", status=True, reason="Ready", message="on gpu"))
    second = store.get(lease.job_id)
    assert second.conditions[2].message == "on gpu"
    assert second.conditions[2].changed_at == first.conditions[2].changed_at
    store.set_conditions(lease, Condition(type="WorkersReady", status=False, reason="Lost", message=""))
    third = store.get(lease.job_id).conditions[2].changed_at
    assert third is not None
    assert first.conditions[2].changed_at is not None
    assert third > first.conditions[2].changed_at
    changes = [event for event in store.events(lease.job_id) if event.type == "condition.changed"]
    assert [json.loads(event.data_json)["reason"] for event in changes] == ["Connected", "Ready", "Lost"]


@pytest.mark.parametrize(("state", "reason"), [(S.cancelled, "Cancelled"), (S.failed, "Failed")])
def test_a_job_at_rest_shows_its_rest_alone(
    state: JobState, reason: str, store: JobStore, claimed_job: ClaimedJob
) -> None:
    lease = claimed_job(S.searching)
    store.set_conditions(lease, READY)
    code = "X" if state is S.failed else None
    job = store.transition(lease, state, error_code=code, error_message=code)
    assert shown(job) == {"Progressing": (False, reason)}


def test_a_job_that_is_put_back_waits_for_its_time(store: JobStore, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(S.searching)
    job = store.put_back(lease, BROKEN, failures=2, retry_in=0.5)
    assert (job.state, job.lease_owner, job.failures, shown(job)) == (
        S.searching,
        None,
        2,
        {"Progressing": (False, "WorkerLost")},
    )
    assert job.retry_at is not None
    assert timedelta(0) < job.retry_at - job.updated_at < timedelta(seconds=1)
    assert store.claim("b", 60) is None
    while (claimed := store.claim("b", 60)) is None:
        pass
    assert (claimed[0].state, claimed[0].failures, claimed[0].retry_at) == (S.searching, 2, None)
    assert shown(claimed[0]) == {"Progressing": (True, "Claimed"), **CONNECTED}


def test_without_another_attempt_it_is_paused_and_resumes_afresh(store: JobStore, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(S.searching)
    paused = store.put_back(lease, BROKEN, failures=5, retry_in=None)
    assert (paused.state, paused.failures) == (S.paused, 5)
    assert [one.message for one in paused.conditions] == ["it died"]
    resumed = store.request(lease.job_id, "resume")
    assert (resumed.state, resumed.failures, shown(resumed)) == (S.queued, 0, {"Progressing": (False, "Queued")})


@pytest.mark.parametrize(("action", "state"), [("cancel", S.cancelled), ("pause", S.paused)])
def test_what_the_user_asked_for_meanwhile_is_done(
    action: str, state: JobState, store: JobStore, claimed_job: ClaimedJob
) -> None:
    lease = claimed_job(S.searching)
    store.request(lease.job_id, action)  # type: ignore[arg-type]
    job = store.put_back(lease, BROKEN, failures=1, retry_in=60)
    assert (job.state, shown(job)) == (state, {"Progressing": (False, state.value.capitalize())})


@pytest.mark.parametrize("action", ["cancel", "pause", "resume"])
def test_a_request_ends_the_wait(action: str, store: JobStore, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(S.searching)
    store.put_back(lease, BROKEN, failures=1, retry_in=3600)
    assert store.request(lease.job_id, action).retry_at is None  # type: ignore[arg-type]
    assert store.claim("b", 60) is not None


def test_the_database_refuses_a_time_to_retry_on_a_job_in_hands(database: Database, claimed_job: ClaimedJob) -> None:
    lease: Lease = claimed_job(S.searching)
    with pytest.raises(sa.exc.IntegrityError, match="ck_jobs_retry_when_free"), database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE ropewalk.jobs SET retry_at = now() WHERE id = :id"), {"id": lease.job_id})


# -- a lease that ran out because nobody could renew it ----------------------------------------------------------------


def outage(database: Database, monkeypatch: pytest.MonkeyPatch, *, ended: float = 0.0) -> None:
    """The database was away until `ended` seconds ago, for longer than anybody's patience."""
    behind = ended + 12.0
    outages = Outages(clock=lambda: time.monotonic() - behind)
    outages.failed(DatabaseUnreachable("it is gone"))
    behind = ended
    outages.failed(DatabaseUnreachable("it is gone"))
    outages.worked()
    behind = 0.0
    monkeypatch.setattr(database, "outages", outages)


@pytest.mark.parametrize("next_owner", ["a", "b"])
def test_a_lease_that_ran_out_in_an_outage_is_nobodys_loss(
    next_owner: str, database: Database, store: JobStore, claimed_job: ClaimedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = claimed_job(S.searching, owner="a")
    expire_lease(database, lease.job_id)
    outage(database, monkeypatch)
    claimed = store.claim(next_owner, 60)
    assert claimed is not None
    assert read_statistics(database).lease_losses == 0
    conditions = {one.type: one for one in store.get(lease.job_id).conditions}
    assert conditions["Progressing"].message == f"{next_owner} is at work"
    assert conditions["DatabaseReachable"].reason == "Reconnected"
    assert conditions["DatabaseReachable"].message == "the database was away for 12 s: it is gone"
    told = json.loads(last_event(store, lease.job_id, "condition.changed").data_json)
    assert (told["condition"], told["reason"]) == ("DatabaseReachable", "Reconnected")


@pytest.mark.parametrize(("ended", "losses"), [(15.0, 0), (25.0, 1)])
def test_a_renewal_at_the_end_of_an_outage_for_a_job_that_was_dropped_is_nobodys_loss_either(
    ended: float,
    losses: int,
    database: Database,
    store: JobStore,
    claimed_job: ClaimedJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It makes a lease that runs out a whole lease behind the end, and a moment."""
    lease = claimed_job(S.searching, owner="a")
    expire_lease(database, lease.job_id)
    outage(database, monkeypatch, ended=ended)
    assert store.claim("a", 10) is not None
    assert read_statistics(database).lease_losses == losses


def test_a_lease_that_outlives_an_outage_tells_of_it(
    database: Database, store: JobStore, claimed_job: ClaimedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = claimed_job(S.searching, owner="a")
    store.tell_of_outage(lease, since_seconds=10)
    assert shown(store.get(lease.job_id))["DatabaseReachable"] == (True, "Connected")
    outage(database, monkeypatch)
    store.tell_of_outage(lease, since_seconds=10)
    assert shown(store.get(lease.job_id))["DatabaseReachable"] == (True, "Reconnected")


def test_nobody_takes_over_from_itself(database: Database, store: JobStore, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(S.searching, owner="a")
    expire_lease(database, lease.job_id)
    assert store.claim("a", 60) is not None
    (condition,) = [one for one in store.get(lease.job_id).conditions if one.type == "Progressing"]
    assert condition.reason == "Claimed"
    assert re.fullmatch(r"a goes on; its own lease had expired \d\.\d s before", condition.message)
    assert read_statistics(database).lease_losses == 1, "nobody renewed it in time, without an outage"
