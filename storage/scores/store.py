"""Accepted document scores, for reading: `storage.scores.acceptance` inserts them, once, and nothing changes them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from evaluation.scores.score import DocumentScore
from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.postgres.tables import document_scores
from storage.records import StoredScore


class ScoreStore:
    """The document scores of one database. Thread-safe; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

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


def _score(row: sa.Row[Any]) -> DocumentScore:
    gradient = None if row.gradient is None else tuple(row.gradient)
    return DocumentScore(
        document_id=row.document_id, nats=row.nats, tokens=row.tokens, exact=row.exact, gradient=gradient
    )
