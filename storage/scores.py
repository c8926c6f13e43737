"""Accepted document scores: inserted once, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from evaluation.score import DocumentScore
from storage.database import Database
from storage.leases import hold
from storage.records import Lease, StoredScore
from storage.retries import retried
from storage.tables import document_scores

# Without the option SQLAlchemy forgets how many rows an INSERT made.
_KEEP = insert(document_scores).on_conflict_do_nothing().execution_options(preserve_rowcount=True)


class ScoreStore:
    """The document scores of one database. Thread-safe; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retried()
    def put(self, lease: Lease, *scores: StoredScore) -> bool:
        """Accept `scores` for the lease's job, all or none; those that are there already stay as they are.

        Returns whether every one of them was new. Raises: LeaseLost.
        """
        with self._database.transaction() as connection:
            hold(connection, lease, shared=True)
            return keep(connection, lease, scores) == len(scores)

    @retried()
    def all(self, job_id: str, split: str) -> tuple[StoredScore, ...]:
        """Every score of the split, by trial and document id; none for an unknown job."""
        with self._database.transaction() as connection:
            return tuple(map(_stored, connection.execute(_of_split(job_id, split))))

    @retried()
    def page(
        self, job_id: str, split: str, *, trial: int | None = None, after: tuple[int, str] | None = None, limit: int
    ) -> tuple[StoredScore, ...]:
        """The first `limit` of :meth:`all` that are of `trial`, and come after a (trial, document id)."""
        columns = document_scores.c
        query = _of_split(job_id, split)
        if trial is not None:
            query = query.where(columns.trial == trial)
        if after is not None:
            query = query.where(sa.tuple_(columns.trial, columns.document_id) > sa.tuple_(*map(sa.literal, after)))
        with self._database.transaction() as connection:
            return tuple(map(_stored, connection.execute(query.limit(limit))))


def _of_split(job_id: str, split: str) -> sa.Select[Any]:
    columns = document_scores.c
    query = sa.select(document_scores).where(columns.job_id == job_id, columns.split == split)
    return query.order_by(columns.trial, columns.document_id)


def _stored(row: sa.Row[Any]) -> StoredScore:
    return StoredScore(
        split=row.split,
        trial=row.trial,
        score=_score(row),
        worker=row.worker,
        attempts=row.attempts,
        seconds=row.seconds,
        scorer=row.scorer,
    )


def keep(connection: sa.Connection, lease: Lease, scores: Sequence[StoredScore]) -> int:
    """Insert `scores` in a transaction that holds the lease; returns how many were new."""
    if not scores:
        return 0
    return connection.execute(_KEEP, [_values(lease, score) for score in scores]).rowcount


def _score(row: sa.Row[Any]) -> DocumentScore:
    gradient = None if row.gradient is None else tuple(row.gradient)
    return DocumentScore(
        document_id=row.document_id, nats=row.nats, tokens=row.tokens, exact=row.exact, gradient=gradient
    )


def _values(lease: Lease, stored: StoredScore) -> dict[str, object]:
    return {
        "job_id": lease.job_id,
        "split": stored.split,
        "trial": stored.trial,
        "document_id": stored.score.document_id,
        "nats": stored.score.nats,
        "tokens": stored.score.tokens,
        "exact": stored.score.exact,
        "gradient": stored.score.gradient,
        "worker": stored.worker,
        "attempts": stored.attempts,
        "seconds": stored.seconds,
        "scorer": stored.scorer,
        "lease_epoch": lease.epoch,
    }
