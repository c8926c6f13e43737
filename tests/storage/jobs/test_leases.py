"""One controller at a time: claims, renewals, and what a controller past its lease can still do: nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from evaluation.scores.score import DocumentScore
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from ropewalk.wire.kinds import JobState
from search_space.candidates.candidate import Candidate
from storage.errors import LeaseLost
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import Condition, Lease, Progress, StoredScore
from storage.scores.acceptance import Acceptance, NewScore
from storage.study.record import StudyRecord
from tests.helpers.leases import ClaimedJob, expire_lease

S = JobState
CANDIDATE = Candidate(scaling=Scaling(RescaleFactors((1.0, 2.0))), origin="initial")
SCORE = StoredScore(
    split="search", trial=0, score=DocumentScore(document_id="d", nats=1.0, tokens=7, exact=True), worker="w"
)
CONDITION = Condition(type="WorkersReady", status=False, reason="Lost", message="it died")

#: Every write that a controller makes, on a search whose study has one running trial.
WRITES: dict[str, Callable[[Database, Lease], object]] = {
    "renew": lambda db, lease: JobStore(db).renew(lease, 60),
    "transition": lambda db, lease: JobStore(db).transition(lease, S.validating),
    "update_progress": lambda db, lease: JobStore(db).update_progress(lease, Progress(trials=9)),
    "append_event": lambda db, lease: JobStore(db).append_event(lease, "x", "{}"),
    "hand_off": lambda db, lease: JobStore(db).hand_off(lease, "{}", "{}"),
    "put_back": lambda db, lease: JobStore(db).put_back(lease, CONDITION, failures=1, retry_in=None),
    "set_conditions": lambda db, lease: JobStore(db).set_conditions(lease, CONDITION),
    "accept": lambda db, lease: Acceptance(db, lease, study=StudyRecord(db, lease.job_id, lease)).accept(
        [NewScore(stored=replace(SCORE, trial=1), index=3, cache_key=bytes(32))]
    ),
    "create_study": lambda db, lease: StudyRecord(db, lease.job_id, lease).create_if_missing(
        model="other", target_length=1
    ),
    "add_candidates": lambda db, lease: StudyRecord(db, lease.job_id, lease).add_candidates(1, [CANDIDATE]),
    "start": lambda db, lease: StudyRecord(db, lease.job_id, lease).start(1),
    "finish": lambda db, lease: StudyRecord(db, lease.job_id, lease).finish(0, 1.0),
    "fail": lambda db, lease: StudyRecord(db, lease.job_id, lease).fail(0, "no"),
    "prune": lambda db, lease: StudyRecord(db, lease.job_id, lease).prune(0),
}

ENDING = ("put_back", "hand_off")


def test_two_claimers_never_get_the_same_job(store: JobStore) -> None:
    made = {store.create("search", "{}").job.id for _ in range(20)}
    barrier = threading.Barrier(8)

    def claim_all(owner: int) -> list[str]:
        barrier.wait()
        mine = []
        while claimed := store.claim(f"owner-{owner}", 60):
            mine.append(claimed[0].id)
        return mine

    with ThreadPoolExecutor(8) as pool:
        claims = [job_id for mine in pool.map(claim_all, range(8)) for job_id in mine]
    # A racing claimer may find the only free row locked and go home; what is left is there for the next.
    while claimed := store.claim("last", 60):
        claims.append(claimed[0].id)
    assert sorted(claims) == sorted(made)


def test_claims_go_to_the_oldest_of_the_kinds_asked_for(store: JobStore) -> None:
    first, second = store.create("search", "{}").job, store.create("search", "{}").job
    evaluation = store.create("evaluation", "{}").job
    claims = [store.claim("a", 60, ["evaluation"]), store.claim("a", 60), store.claim("a", 60), store.claim("a", 60)]
    assert [claim and claim[0].id for claim in claims] == [evaluation.id, first.id, second.id, None]


def test_an_expired_lease_is_taken_over_with_the_next_epoch(
    database: Database, store: JobStore, claimed_job: ClaimedJob
) -> None:
    lease = claimed_job(S.searching, owner="a")
    assert store.claim("b", 60) is None
    expire_lease(database, lease.job_id)
    claimed = store.claim("b", 60)
    assert claimed is not None
    assert (claimed[0].state, claimed[1].owner, claimed[1].epoch) == (S.searching, "b", lease.epoch + 1)
    assert store.transition(claimed[1], S.preparing).state == S.preparing  # the new owner prepares again


def test_expiry_is_real_time_by_the_databases_clock(store: JobStore, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(seconds=0.2)
    renewed = store.renew(lease, 0.4).lease_expires_at
    assert renewed is not None
    deadline = time.monotonic() + 10
    while (claimed := store.claim("b", 60)) is None:
        assert time.monotonic() < deadline
    assert datetime.now(UTC) >= renewed  # one machine, one clock
    with pytest.raises(LeaseLost, match=f"b holds it at epoch {claimed[1].epoch}"):
        store.renew(lease, 60)


def test_a_released_job_is_free_at_once_in_its_state(store: JobStore, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(S.searching)
    assert store.release(lease)
    assert not store.release(lease)
    claimed = store.claim("b", 60)
    assert claimed is not None
    assert (claimed[0].state, claimed[1].epoch) == (S.searching, lease.epoch + 1)


@pytest.fixture
def search_with_a_trial(database: Database, claimed_job: ClaimedJob) -> Lease:
    lease = claimed_job(S.searching)
    study = StudyRecord(database, lease.job_id, lease)
    study.create_if_missing(model="pocket", target_length=1024)
    study.add_candidates(0, [CANDIDATE, CANDIDATE])
    study.start(0)
    return lease


def everything(database: Database) -> list[object]:
    """Every row of both schemas."""
    tables = sa.text(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('ropewalk', 'optuna') ORDER BY 1, 2"
    )
    with database.engine.begin() as connection:
        names = [f'{row.schemaname}."{row.tablename}"' for row in connection.execute(tables)]
        return [connection.execute(sa.text(f"SELECT t::text FROM {name} t ORDER BY 1")).all() for name in names]


def test_every_write_after_a_take_over_is_refused_without_a_trace(
    database: Database, store: JobStore, search_with_a_trial: Lease
) -> None:
    lease = search_with_a_trial
    expire_lease(database, lease.job_id)
    assert store.claim("a", 60) is not None  # the same owner, another epoch
    before = everything(database)
    for name, write in WRITES.items():
        with pytest.raises(LeaseLost, match="epoch 2"):
            write(database, lease)
        assert everything(database) == before, name


@pytest.mark.parametrize("is_expired", [False, True], ids=["held", "expired and claimed by nobody"])
def test_every_write_is_let_through_with_the_lease(
    database: Database, search_with_a_trial: Lease, is_expired: bool
) -> None:
    lease = search_with_a_trial
    if is_expired:
        expire_lease(database, lease.job_id)
    for name in (name for name in WRITES if name not in ENDING):
        before = everything(database)
        WRITES[name](database, lease)
        if name not in ("fail", "prune"):  # the trial is complete by then
            assert everything(database) != before, name


@pytest.mark.parametrize("name", ENDING)
def test_writes_that_end_the_lease_are_let_through_with_it(
    name: str, database: Database, search_with_a_trial: Lease
) -> None:
    JobStore(database).transition(search_with_a_trial, S.validating)
    WRITES[name](database, search_with_a_trial)
    assert JobStore(database).get(search_with_a_trial.job_id).lease_owner is None


@pytest.mark.parametrize("write", ["accept", "finish", "append_event", "transition"])
def test_a_write_that_waits_behind_a_claim_is_refused(
    write: str, database: Database, search_with_a_trial: Lease
) -> None:
    """The claim's transaction is open while the old owner writes: the write waits, and then sees the new epoch."""
    lease = search_with_a_trial
    take_over = sa.text(
        "UPDATE ropewalk.jobs SET lease_owner = 'b', lease_epoch = lease_epoch + 1, "
        "lease_expires_at = clock_timestamp() + interval '1 minute' WHERE id = :id"
    )
    with ThreadPoolExecutor(1) as pool:
        with database.engine.begin() as connection:
            connection.execute(take_over, {"id": lease.job_id})
            late = pool.submit(WRITES[write], database, lease)
            time.sleep(0.3)
            assert not late.done()
        with pytest.raises(LeaseLost, match="b holds it"):
            late.result(timeout=10)


def test_a_late_renewal_is_as_good_as_a_timely_one_until_somebody_claims(
    database: Database, store: JobStore, claimed_job: ClaimedJob
) -> None:
    lease = claimed_job(S.searching)
    expire_lease(database, lease.job_id)
    assert store.claim("test", 60, running=[lease.job_id]) is None, "whoever runs a job does not claim it"
    store.renew(lease, 60)
    assert store.claim("b", 60) is None
    expire_lease(database, lease.job_id)
    assert store.claim("b", 60) is not None
    with pytest.raises(LeaseLost, match="b holds it"):
        store.renew(lease, 60)


def test_a_study_without_a_lease_is_read_only(database: Database, search_with_a_trial: Lease) -> None:
    study = StudyRecord(database, search_with_a_trial.job_id)
    assert len(study.trials()) == 2
    with pytest.raises(LeaseLost, match="needs a lease"):
        study.finish(0, 1.0)
