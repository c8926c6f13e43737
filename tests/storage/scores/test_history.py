"""Scores in the order in which they came in."""

from __future__ import annotations

import pytest

from evaluation.scores.score import DocumentScore
from ropewalk.wire.kinds import JobState
from storage.postgres.database import Database
from storage.records import Lease, StoredScore
from storage.scores.history import ScoreHistory, TrialPasses
from tests.helpers.accepting import accept
from tests.helpers.leases import ClaimedJob


def put(database: Database, lease: Lease, trial: int, document: int, *, split: str = "search") -> DocumentScore:
    score = DocumentScore(document_id=f"d{document}", nats=trial + document / 8, tokens=7, exact=document == 1)
    accept(database, lease, StoredScore(split=split, trial=trial, score=score, worker="test"))
    return score


def tokens_of(document_id: str) -> int:
    return 100 + int(document_id.removeprefix("d"))


def test_passes_are_counted_over_all_trials(database: Database, claimed_job: ClaimedJob) -> None:
    lease, other = claimed_job(JobState.searching), claimed_job(JobState.searching)
    for trial, document in [(0, 0), (1, 5), (1, 0), (0, 1), (2, 0), (1, 1)]:
        put(database, lease, trial, document)
    put(database, lease, 0, 0, split="validation")
    put(database, other, 0, 7)
    assert ScoreHistory(database, lease.job_id, "search").passes(tokens_of) == {
        0: TrialPasses(documents=2, passes=4, tokens=100 + 105 + 100 + 101, nll=0.125 / 14),
        1: TrialPasses(documents=3, passes=6, tokens=100 + 105 + 100 + 101 + 100 + 101, nll=3.75 / 21),
        2: TrialPasses(documents=1, passes=5, tokens=100 + 105 + 100 + 101 + 100, nll=2 / 7),
    }
    assert ScoreHistory(database, "srch_nothing", "search").passes(tokens_of) == {}


def test_passes_with_gradients_count_as_more(database: Database, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(JobState.searching)
    plain = DocumentScore(document_id="d1", nats=1.0, tokens=7, exact=False)
    differentiated = DocumentScore(document_id="d2", nats=1.0, tokens=7, exact=False, gradient=(0.5, 0.0))
    for score in (plain, differentiated):
        accept(database, lease, StoredScore(split="search", trial=0, score=score, worker="test"))
    assert ScoreHistory(database, lease.job_id, "search").passes(tokens_of) == {
        0: TrialPasses(documents=2, passes=4, tokens=101 + 3 * 102, nll=2 / 14)
    }


def test_scores_of_some_trials(database: Database, claimed_job: ClaimedJob) -> None:
    lease = claimed_job(JobState.searching)
    second, first = put(database, lease, 0, 1), put(database, lease, 0, 0)
    put(database, lease, 1, 0)
    history = ScoreHistory(database, lease.job_id, "search")
    assert history.scores([0, 9]) == {0: (first, second)}
    assert history.scores([]) == {}
    assert set(history.scores([0, 1])) == {0, 1}


def test_passes_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 2 documents after 2 passes, but got 3"):
        TrialPasses(documents=3, passes=2, tokens=20, nll=0.1)
