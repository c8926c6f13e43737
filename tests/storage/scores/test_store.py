"""Accepted scores: once, exactly, and never changed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import sqlalchemy as sa

from evaluation.scores.score import DocumentScore
from ropewalk.wire.kinds import JobState
from storage.postgres.database import Database
from storage.records import StoredScore
from storage.scores.store import ScoreStore
from tests.helpers.accepting import accept
from tests.helpers.leases import ClaimedJob


def stored(trial: int, document: str, nats: float = 0.1 + 0.2) -> StoredScore:
    score = DocumentScore(document_id=document, nats=nats, tokens=7, exact=False)
    return StoredScore(
        split="search", trial=trial, score=score, worker="w0", attempts=2, seconds=0.25, scorer="0123456789abcdef"
    )


def test_scores_read_back_bit_for_bit_by_trial_and_document(database: Database, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(JobState.searching)
    scores = ScoreStore(database)
    many = [stored(trial, f"d{index}", nats=1 / (1 + trial + index)) for trial in range(3) for index in range(4)]
    accept(database, lease, *reversed(many))
    assert scores.all(lease.job_id, "search") == tuple(many)
    assert scores.all(lease.job_id, "validation") == ()


def test_gradients_read_back_bit_for_bit_beside_scores_without(database: Database, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(JobState.searching)
    scores = ScoreStore(database)
    plain, other = stored(0, "d"), stored(0, "e")
    gradient = (1 / 3, -2.5e-300, 0.0, 1e300, -0.1)
    other = replace(other, score=replace(other.score, gradient=gradient))
    accept(database, lease, plain, other)
    assert scores.all(lease.job_id, "search") == (plain, other)


def test_the_first_score_stays(database: Database, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(JobState.searching)
    scores = ScoreStore(database)
    accept(database, lease, stored(0, "d", 1.0))
    accept(database, lease, stored(0, "d", 2.0), stored(0, "e", 3.0))
    assert [s.score.nats for s in scores.all(lease.job_id, "search")] == [1.0, 3.0]
    accept(database, lease, replace(stored(0, "d", 4.0), split="validation"))
    assert [s.score.nats for s in scores.all(lease.job_id, "validation")] == [4.0]


def test_the_database_itself_refuses_numbers_that_are_no_scores(database: Database, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(JobState.searching)
    good: dict[str, object] = {"trial": 0, "nats": 1.0, "tokens": 7, "scorer": "", "gradient": [0.5, -0.5]}
    bad: list[tuple[str, object]] = [("nats", math.nan), ("nats", math.inf), ("nats", -1.0), ("tokens", 0)]
    bad += [("trial", -1), ("scorer", "me"), ("gradient", []), ("gradient", [1.0]), ("gradient", [1.0, None])]
    bad += [("gradient", [1.0, value]) for value in (math.nan, math.inf, -math.inf)]
    for name, value in bad:
        with pytest.raises(sa.exc.IntegrityError, match=f"ck_document_scores_({name}|key)"):
            insert_score(database, lease.job_id, good | {name: value})
    insert_score(database, lease.job_id, good)


def insert_score(database: Database, job_id: str, values: dict[str, object]) -> None:
    insert = """
        INSERT INTO ropewalk.document_scores
            (job_id, split, trial, document_id, nats, tokens, exact, worker, attempts, seconds, lease_epoch, scorer,
             gradient)
        VALUES (:job_id, 's', :trial, 'd', :nats, :tokens, true, 'w', 1, 0, 1, :scorer,
                CAST(:gradient AS double precision[]))
    """
    with database.engine.begin() as connection:
        connection.execute(sa.text(insert), {"job_id": job_id} | values)
