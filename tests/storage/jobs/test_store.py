"""Creation, idempotency, lists, and moves with their events."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from ropewalk.wire.kinds import JobState
from storage.errors import IdempotencyConflict, InvalidTransition, JobNotFound, LeaseLost, UnknownPageToken
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import IdempotencyRequest, Progress
from tests.helpers.leases import ClaimedJob

S = JobState


def key(body: str = "1", *, key: str = "k", principal: str = "me") -> IdempotencyRequest:
    return IdempotencyRequest(principal=principal, key=key, request_hash=body)


def test_a_new_job_is_queued_and_reads_back_as_it_was_created(store: JobStore) -> None:
    created = store.create("search", '{"a":1}', [("team", "x"), ("env", "dev")])
    job = created.job
    assert not created.replayed
    assert job == store.get(job.id)
    assert (job.kind, job.state, job.spec_json) == ("search", S.queued, '{"a":1}')
    assert job.labels == (("env", "dev"), ("team", "x"))
    assert job.id.startswith("srch_")
    assert len(job.id) == len("srch_") + 26
    assert job.created_at.utcoffset() is not None
    assert job.progress == Progress()


def test_ids_sort_by_creation(store: JobStore) -> None:
    ids = []
    for _ in range(5):
        ids.append(store.create("finetune", "{}").job.id)
        threading.Event().wait(0.002)
    assert ids == sorted(ids)


def test_an_unknown_job_is_not_found(store: JobStore) -> None:
    with pytest.raises(JobNotFound, match="srch_nothing"):
        store.get("srch_nothing")
    with pytest.raises(JobNotFound):
        store.events("srch_nothing")
    with pytest.raises(JobNotFound):
        store.request("srch_nothing", "cancel")


class TestIdempotency:
    def test_the_same_request_gets_the_first_job(self, store: JobStore) -> None:
        first = store.create("search", "{}", idempotency=key())
        again = store.create("search", "{}", idempotency=key())
        assert again.replayed
        assert again.job.id == first.job.id

    def test_another_body_or_kind_under_the_key_is_refused(self, store: JobStore) -> None:
        store.create("search", "{}", idempotency=key("1"))
        with pytest.raises(IdempotencyConflict, match="'k'"):
            store.create("search", "{}", idempotency=key("2"))
        with pytest.raises(IdempotencyConflict):
            store.create("finetune", "{}", idempotency=key("1"))

    def test_principals_do_not_share_keys(self, store: JobStore) -> None:
        mine = store.create("search", "{}", idempotency=key(principal="me"))
        theirs = store.create("search", "{}", idempotency=key("2", principal="they"))
        assert mine.job.id != theirs.job.id

    def test_fifty_times_at_once_is_one_job(self, store: JobStore) -> None:
        barrier = threading.Barrier(50)

        def post(_: int) -> tuple[str, bool]:
            barrier.wait()
            created = store.create("search", "{}", idempotency=key())
            return created.job.id, created.replayed

        with ThreadPoolExecutor(50) as pool:
            outcomes = list(pool.map(post, range(50)))
        assert len({job_id for job_id, _ in outcomes}) == 1
        assert [replayed for _, replayed in outcomes].count(False) == 1
        assert len(store.list("search").items) == 1

    def test_a_key_without_its_job_cannot_stay(self, database: Database) -> None:
        statement = "INSERT INTO ropewalk.idempotency_keys VALUES ('p', 'k', 'h', 'srch_gone', now())"
        with pytest.raises(sa.exc.IntegrityError, match="fk_idempotency_keys_job_id"), database.engine.begin() as c:
            c.execute(sa.text(statement))


class TestList:
    def test_pages_are_newest_first_and_complete(self, store: JobStore) -> None:
        made = [store.create("search", "{}").job.id for _ in range(7)]
        store.create("evaluation", "{}")
        found, token = [], None
        while True:
            page = store.list("search", limit=3, page_token=token)
            found += [job.id for job in page.items]
            store.create("search", "{}")  # jobs that come in between move no page
            token = page.next_page_token
            if token is None:
                break
        assert found == made[::-1]

    def test_filters(self, store: JobStore) -> None:
        a = store.create("search", "{}", [("team", "a")]).job
        store.create("search", "{}", [("team", "b")])
        store.request(a.id, "cancel")
        assert [job.id for job in store.list("search", label=("team", "a")).items] == [a.id]
        assert [job.id for job in store.list("search", state=S.cancelled).items] == [a.id]
        assert store.list("search", state=S.cancelled, label=("team", "b")).items == ()

    def test_foreign_tokens_are_refused(self, store: JobStore) -> None:
        for _ in range(3):
            store.create("search", "{}")
        token = store.list("search", limit=1).next_page_token
        with pytest.raises(UnknownPageToken, match="filters"):
            store.list("search", limit=1, page_token=token, state=S.queued)
        for nonsense in ("", "x", "[]", "e30", "WzEsMiwzXQ", "💥", "A" * 5):
            with pytest.raises(UnknownPageToken):
                store.list("search", page_token=nonsense)


class TestMoves:
    def test_a_search_from_claim_to_success(self, store: JobStore, claimed_job: ClaimedJob) -> None:
        lease = claimed_job(S.validating)
        done = store.transition(lease, S.succeeded, result_json='{"x":1}', progress=Progress(stage="done", fraction=1))
        assert (done.state, done.result_json, done.progress.stage) == (S.succeeded, '{"x":1}', "done")
        assert done.finished_at is not None
        assert done.started_at is not None
        assert (done.lease_owner, done.lease_expires_at, done.lease_epoch) == (None, None, 1)
        moves = [json.loads(e.data_json) for e in store.events(done.id) if e.type == "state.changed"]
        assert [move["to"] for move in moves] == ["preparing", "searching", "validating", "succeeded"]

    def test_nothing_moves_a_finished_job(self, store: JobStore, claimed_job: ClaimedJob) -> None:
        lease = claimed_job(S.validating)
        store.transition(lease, S.succeeded)
        with pytest.raises(LeaseLost):
            store.transition(lease, S.failed, error_code="X", error_message="y")
        assert store.claim("b", 60) is None

    def test_a_move_outside_the_table_is_refused_with_the_states(
        self, store: JobStore, claimed_job: ClaimedJob
    ) -> None:
        lease = claimed_job(S.preparing)
        with pytest.raises(InvalidTransition, match=r"state preparing may move to: .*searching.* training"):
            store.transition(lease, S.training)
        assert store.get(lease.job_id).state == S.preparing

    def test_failure_carries_its_error_and_nothing_else_does(self, store: JobStore, claimed_job: ClaimedJob) -> None:
        lease = claimed_job(S.searching)
        with pytest.raises(InvalidTransition, match="carries an error"):
            store.transition(lease, S.failed)
        with pytest.raises(InvalidTransition, match="carries an error"):
            store.transition(lease, S.validating, error_code="X", error_message="y")
        failed = store.transition(lease, S.failed, error_code="SCORING_FAILED", error_message="no")
        assert (failed.error_code, failed.error_message) == ("SCORING_FAILED", "no")

    def test_staying_is_no_event(self, store: JobStore, claimed_job: ClaimedJob) -> None:
        lease = claimed_job(S.searching)
        before = len(store.events(lease.job_id))
        assert store.transition(lease, S.searching, progress=Progress(trials=3)).progress.trials == 3
        assert len(store.events(lease.job_id)) == before

    def test_versions_grow_with_changes_and_not_with_renewals(self, store: JobStore, claimed_job: ClaimedJob) -> None:
        lease = claimed_job(S.searching)
        before = store.get(lease.job_id).version
        store.renew(lease, 60)
        assert store.get(lease.job_id).version == before
        store.update_progress(lease, Progress(trials=1, best_nll=0.1 + 0.2))
        after = store.get(lease.job_id)
        assert after.version == before + 1
        assert after.progress.best_nll == 0.1 + 0.2


class TestHandOff:
    def test_parent_waits_and_ends_with_its_child(self, store: JobStore, claimed_job: ClaimedJob) -> None:
        lease = claimed_job(S.validating)
        child = store.hand_off(lease, '{"steps":1}', '{"factors":1}')
        parent = store.get(lease.job_id)
        assert (parent.state, parent.result_json, parent.lease_owner) == (S.finetuning, '{"factors":1}', None)
        assert (child.kind, child.state, child.parent_id) == ("finetune", S.queued, parent.id)
        claimed = store.claim("b", 60)
        assert claimed is not None
        assert claimed[0].id == child.id  # and never the search that waits
        assert store.claim("c", 60) is None
        for state in (S.preparing, S.training, S.succeeded):
            store.transition(claimed[1], state)
        assert store.get(parent.id).state == S.succeeded

    def test_a_failed_child_fails_its_parent_with_the_reason(self, store: JobStore, claimed_job: ClaimedJob) -> None:
        lease = claimed_job(S.validating)
        child = store.hand_off(lease, "{}", "{}")
        claimed = store.claim("b", 60)
        assert claimed is not None
        store.transition(claimed[1], S.failed, error_code="OOM", error_message="no memory")
        parent = store.get(lease.job_id)
        assert (parent.state, parent.error_code) == (S.failed, "FINETUNE_FAILED")
        assert child.id in (parent.error_message or "")
        assert "no memory" in (parent.error_message or "")

    def test_only_a_validated_search_hands_off(self, store: JobStore, claimed_job: ClaimedJob) -> None:
        lease = claimed_job(S.searching)
        with pytest.raises(InvalidTransition):
            store.hand_off(lease, "{}", "{}")
        assert store.list("finetune").items == ()

    def test_a_second_unfinished_child_is_refused(self, store: JobStore, claimed_job: ClaimedJob) -> None:
        lease = claimed_job(S.validating)
        store.hand_off(lease, "{}", "{}")
        with pytest.raises(InvalidTransition, match="one unfinished fine-tuning"):
            store.create("finetune", "{}", parent_id=lease.job_id)
        with pytest.raises(JobNotFound):
            store.create("finetune", "{}", parent_id="srch_nothing")
