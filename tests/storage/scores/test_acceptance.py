"""One score, one commit: the score, its intermediate value and its cache entry come together or not at all."""

from __future__ import annotations

import math
from dataclasses import replace

import optuna
import pytest
import sqlalchemy as sa

from evaluation.scores.score import DocumentScore
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from ropewalk.wire.kinds import JobState
from search_space.candidates.candidate import Candidate
from storage.errors import LeaseLost, TrialNotFound
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import Lease, StoredScore
from storage.scores.acceptance import Acceptance, NewScore
from storage.scores.cache import CachedScore, ScoreCache
from storage.scores.store import ScoreStore
from storage.study.record import StudyRecord
from tests.helpers.leases import ClaimedJob, take_over

CANDIDATE = Candidate(scaling=Scaling(RescaleFactors((1.0, 2.0))), origin="initial")


def new(trial: int, index: int, nats: float = 0.3) -> NewScore:
    score = DocumentScore(document_id=f"d{index}", nats=nats, tokens=7, exact=False)
    stored = StoredScore(split="search", trial=trial, score=score, worker="w", scorer="0123456789abcdef")
    return NewScore(stored=stored, index=index, cache_key=bytes([trial, index]) * 16)


@pytest.fixture
def lease(database: Database, claimed_job: ClaimedJob) -> Lease:
    held = claimed_job(JobState.searching)
    study = StudyRecord(database, held.job_id, held)
    study.create_if_missing(model="pocket", target_length=1024)
    study.add_candidates(0, [CANDIDATE] * 3)
    study.start(0)
    return held


@pytest.fixture
def acceptance(database: Database, lease: Lease) -> Acceptance:
    return Acceptance(database, lease, study=StudyRecord(database, lease.job_id, lease))


def kept(database: Database, search_id: str) -> tuple[list[tuple[int, str]], dict[int, dict[int, float]], int]:
    """(trial, document) of the scores; intermediate values by trial; entries of the cache."""
    scores = [(one.trial, one.score.document_id) for one in ScoreStore(database).all(search_id, "search")]
    trials = optuna.load_study(study_name=search_id, storage=database.optuna).trials
    with database.transaction() as connection:
        entries = connection.execute(sa.text("SELECT count(*) FROM ropewalk.score_cache")).scalar_one()
    return scores, {trial.number: trial.intermediate_values for trial in trials if trial.intermediate_values}, entries


def test_all_three_are_there_and_the_first_score_stays(
    database: Database, lease: Lease, acceptance: Acceptance
) -> None:
    assert acceptance.accept([new(0, 0), new(0, 2), new(1, 0, 7.7)]) == "none"
    everything = kept(database, lease.job_id)
    shown = {0: {0: 0.3 / 7, 2: 0.3 / 7}, 1: {0: 7.7 / 7}}
    assert everything == ([(0, "d0"), (0, "d2"), (1, "d0")], shown, 3)
    assert ScoreCache(database).get([bytes([1, 0]) * 16]) == {
        bytes([1, 0]) * 16: CachedScore(nats=7.7, tokens=7, exact=False)
    }
    acceptance.accept([new(0, 0, 5.0), new(0, 1)])
    assert kept(database, lease.job_id)[1][0] == {0: 0.3 / 7, 1: 0.3 / 7, 2: 0.3 / 7}
    assert ScoreStore(database).all(lease.job_id, "search")[0].score.nats == 0.3


def test_what_one_of_the_three_refuses_leaves_nothing(database: Database, lease: Lease, acceptance: Acceptance) -> None:
    short_key = replace(new(0, 1), cache_key=b"short")
    with pytest.raises(sa.exc.IntegrityError, match="ck_score_cache_key"):
        acceptance.accept([new(0, 0), short_key])
    assert kept(database, lease.job_id) == ([], {}, 0)


def test_every_field_comes_back_as_it_was(database: Database, lease: Lease, acceptance: Acceptance) -> None:
    gradient = (0.1 + 0.2, -1e-300, 3.0)
    with_gradient = DocumentScore(document_id="d1", nats=math.pi, tokens=7, exact=True, gradient=gradient)
    stored = [
        StoredScore(split="search", trial=0, score=with_gradient, worker="w:1", attempts=2, seconds=0.1 + 0.2),
        StoredScore(split="search", trial=1, score=replace(with_gradient, gradient=None), worker="w", scorer="0" * 16),
    ]
    acceptance.accept([NewScore(stored=one, index=4) for one in stored])
    assert ScoreStore(database).all(lease.job_id, "search") == tuple(stored)


def test_without_the_lease_nothing_comes_in(database: Database, lease: Lease, acceptance: Acceptance) -> None:
    take_over(database, lease.job_id)
    with pytest.raises(LeaseLost):
        acceptance.accept([new(0, 0)])
    assert kept(database, lease.job_id) == ([], {}, 0)


def test_a_finished_trial_is_left_as_it_is(database: Database, lease: Lease, acceptance: Acceptance) -> None:
    acceptance.accept([new(0, 0)])
    StudyRecord(database, lease.job_id, lease).finish(0, 0.3 / 7)
    acceptance.accept([new(0, 1)])
    scores, shown, _ = kept(database, lease.job_id)
    assert (scores, shown) == ([(0, "d0"), (0, "d1")], {0: {0: 0.3 / 7}})


def test_the_answer_says_what_the_user_asks_for(database: Database, lease: Lease, acceptance: Acceptance) -> None:
    JobStore(database).request(lease.job_id, "pause")
    assert acceptance.accept([new(0, 0)]) == "pause"
    with pytest.raises(TrialNotFound):
        acceptance.accept([new(9, 0)])


def test_held_out_documents_are_shown_nowhere(database: Database, lease: Lease) -> None:
    Acceptance(database, lease).accept([new(9, 0)])
    scores, shown, entries = kept(database, lease.job_id)
    assert (scores, shown, entries) == ([(9, "d0")], {}, 1)
