"""Document scores as a controller accepts them."""

from __future__ import annotations

from storage.postgres.database import Database
from storage.records import Lease, StoredScore
from storage.scores.acceptance import Acceptance, NewScore
from storage.study.record import StudyRecord


def accept(database: Database, lease: Lease, *scores: StoredScore) -> None:
    """Accept `scores` for the lease's job; no study shows them, no cache keeps them."""
    Acceptance(database, lease).accept([NewScore(stored=one, index=index) for index, one in enumerate(scores)])


def accept_shown(database: Database, lease: Lease, score: StoredScore, *, index: int) -> None:
    """Accept the score of document `index`, which the job's study shows."""
    study = StudyRecord(database, lease.job_id, lease)
    Acceptance(database, lease, study=study).accept([NewScore(stored=score, index=index)])
