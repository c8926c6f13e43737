"""Cancel, pause and resume in every state."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from ropewalk.wire.kinds import JobAction, JobState
from storage.errors import InvalidTransition, LeaseLost
from storage.jobs.leases import lock_job
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import Condition, Lease
from tests.helpers.leases import ClaimedJob, expire_lease

S = JobState


def test_a_queued_job_is_cancelled_at_once(store: JobStore) -> None:
    job = store.create("search", "{}").job
    cancelled = store.request(job.id, "cancel")
    assert cancelled.state == S.cancelled
    assert cancelled.finished_at is not None
    assert store.request(job.id, "cancel") == cancelled
    assert store.claim("a", 60) is None


def test_a_claimed_job_that_is_still_queued_is_taken_from_its_controller(
    store: JobStore, claimed_job: ClaimedJob
) -> None:
    lease = claimed_job(S.queued)
    assert store.request(lease.job_id, "cancel").state == S.cancelled
    with pytest.raises(LeaseLost):
        store.transition(lease, S.preparing)


def test_an_active_job_is_cancelled_by_its_controller(store: JobStore, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(S.searching)
    asked = store.request(lease.job_id, "cancel")
    assert (asked.state, asked.request) == (S.cancelling, "cancel")
    assert store.request(lease.job_id, "cancel").version == asked.version
    assert store.renew(lease, 60).request == "cancel"
    with pytest.raises(InvalidTransition, match="cancelling may move to: cancelled, failed"):
        store.transition(lease, S.validating)
    done = store.transition(lease, S.cancelled)
    assert (done.state, done.request) == (S.cancelled, "none")


def test_a_cancelling_job_whose_controller_died_is_claimed_to_be_ended(
    database: Database, store: JobStore, claimed_job: ClaimedJob
) -> None:
    lease = claimed_job(S.searching)
    store.request(lease.job_id, "cancel")
    expire_lease(database, lease.job_id)
    claimed = store.claim("b", 60)
    assert claimed is not None
    assert claimed[0].state == S.cancelling
    assert store.transition(claimed[1], S.cancelled).state == S.cancelled


def test_pause_and_resume_of_an_active_job(store: JobStore, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(S.searching)
    asked = store.request(lease.job_id, "pause")
    assert (asked.state, asked.request) == (S.searching, "pause")
    assert store.request(lease.job_id, "pause").version == asked.version
    assert store.renew(lease, 60).request == "pause"
    paused = store.transition(lease, S.paused)
    assert (paused.state, paused.request, paused.lease_owner) == (S.paused, "none", None)
    assert store.claim("b", 60) is None
    assert store.request(lease.job_id, "pause").state == S.paused
    assert store.request(lease.job_id, "resume").state == S.queued
    claimed = store.claim("b", 60)
    assert claimed is not None
    assert claimed[1].epoch == lease.epoch + 1


def test_a_pause_withdrawn_before_it_was_obeyed(store: JobStore, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(S.searching)
    store.request(lease.job_id, "pause")
    assert store.request(lease.job_id, "resume").request == "none"
    # The controller had seen the pause and obeys too late: the job is not left paused, but goes on from the queue.
    assert store.transition(lease, S.paused).state == S.queued
    assert store.claim("b", 60) is not None


def test_a_pause_can_become_a_cancellation(store: JobStore, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(S.searching)
    store.request(lease.job_id, "pause")
    assert store.request(lease.job_id, "cancel").state == S.cancelling
    with pytest.raises(InvalidTransition, match="is cancelling"):
        store.request(lease.job_id, "pause")
    with pytest.raises(InvalidTransition):
        store.transition(lease, S.paused)


def test_a_queued_job_pauses_at_once_and_a_paused_one_can_be_cancelled(store: JobStore) -> None:
    job = store.create("evaluation", "{}").job
    assert store.request(job.id, "pause").state == S.paused
    assert store.request(job.id, "cancel").state == S.cancelled


@pytest.mark.parametrize("action", ["cancel", "pause", "resume"])
def test_a_finished_job_is_left_alone_and_the_state_is_named(
    action: JobAction, store: JobStore, claimed_job: ClaimedJob
) -> None:
    lease = claimed_job(S.validating)
    store.transition(lease, S.succeeded)
    before = store.get(lease.job_id)
    with pytest.raises(InvalidTransition, match=f"{lease.job_id} is succeeded"):
        store.request(lease.job_id, action)
    assert store.get(lease.job_id) == before


def test_resuming_what_runs_changes_nothing(store: JobStore, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(S.searching)
    before = store.get(lease.job_id)
    assert store.request(lease.job_id, "resume") == before


class TestWhileFinetuning:
    def test_cancel_before_the_child_started_ends_both(self, store: JobStore, claimed_job: ClaimedJob) -> None:
        lease = claimed_job(S.validating)
        child = store.hand_off(lease, "{}", "{}")
        assert store.request(lease.job_id, "cancel").state == S.cancelled
        assert store.get(child.id).state == S.cancelled

    def test_cancel_while_the_child_trains(self, store: JobStore, claimed_job: ClaimedJob) -> None:
        lease = claimed_job(S.validating)
        child = store.hand_off(lease, "{}", "{}")
        claimed = store.claim("b", 60)
        assert claimed is not None
        store.transition(claimed[1], S.preparing)
        parent = store.request(lease.job_id, "cancel")
        assert (parent.state, parent.request) == (S.finetuning, "cancel")
        assert store.get(child.id).state == S.cancelling
        store.transition(claimed[1], S.cancelled)
        assert store.get(lease.job_id).state == S.cancelled

    def test_a_cancelled_child_that_is_put_back_ends_both(self, store: JobStore, claimed_job: ClaimedJob) -> None:
        lease = claimed_job(S.validating)
        store.hand_off(lease, "{}", "{}")
        claimed = store.claim("b", 60)
        assert claimed is not None
        store.transition(claimed[1], S.preparing)
        store.request(lease.job_id, "cancel")
        lost = Condition(type="Progressing", status=False, reason="WorkerLost", message="it died")
        assert store.put_back(claimed[1], lost, failures=1, retry_in=1.0).state == S.cancelled
        assert store.get(lease.job_id).state == S.cancelled

    def test_a_cancellation_that_waits_for_the_hand_off_reaches_the_child(
        self, database: Database, store: JobStore, claimed_job: ClaimedJob
    ) -> None:
        lease = claimed_job(S.validating)
        with ThreadPoolExecutor(2) as pool:
            with database.transaction() as connection:
                lock_job(connection, lease.job_id)
                hands_off = pool.submit(store.hand_off, lease, "{}", "{}")
                _wait_until_blocked(database, 1)
                cancels = pool.submit(store.request, lease.job_id, "cancel")
                _wait_until_blocked(database, 2)
            child = hands_off.result(timeout=20)
            assert cancels.result(timeout=20).state == S.cancelled
        assert store.get(child.id).state == S.cancelled

    def test_cancelling_the_child_cancels_the_parent(self, store: JobStore, claimed_job: ClaimedJob) -> None:
        lease = claimed_job(S.validating)
        child = store.hand_off(lease, "{}", "{}")
        store.request(child.id, "cancel")
        assert store.get(lease.job_id).state == S.cancelled

    def test_the_childs_end_and_the_parents_cancellation_never_deadlock(
        self, store: JobStore, claimed_job: ClaimedJob
    ) -> None:
        for _ in range(5):
            lease = claimed_job(S.validating)
            store.hand_off(lease, "{}", "{}")
            claimed = store.claim("b", 60)
            assert claimed is not None
            for state in (S.preparing, S.training):
                store.transition(claimed[1], state)
            barrier = threading.Barrier(2)
            with ThreadPoolExecutor(2) as pool:
                ends = pool.submit(_succeed_or_obey, store, claimed[1], barrier)
                cancels = pool.submit(_cancel_if_running, store, lease.job_id, barrier)
                ends.result(timeout=20)
                cancels.result(timeout=20)
            parent, child = store.get(lease.job_id), store.get(claimed[1].job_id)
            assert parent.state == child.state
            assert parent.state in (S.succeeded, S.cancelled)


def _wait_until_blocked(database: Database, sessions: int) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + 20
    with database.engine.connect() as connection:
        while connection.execute(sa.text(query)).scalar_one() < sessions:
            assert time.monotonic() < deadline
            connection.rollback()  # a transaction sees its first answer again and again
            time.sleep(0.01)


def _succeed_or_obey(store: JobStore, lease: Lease, barrier: threading.Barrier) -> None:
    barrier.wait()
    try:
        store.transition(lease, S.succeeded)
    except InvalidTransition:  # the cancellation came first
        store.transition(lease, S.cancelled)


def _cancel_if_running(store: JobStore, job_id: str, barrier: threading.Barrier) -> None:
    barrier.wait()
    try:
        store.request(job_id, "cancel")
    except InvalidTransition:
        assert store.get(job_id).state == S.succeeded
