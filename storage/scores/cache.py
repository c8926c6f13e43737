"""Document scores by content, shared by all searches: what was computed once is never computed again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from evaluation.scores.score import DocumentScore, check_score
from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.postgres.tables import score_cache

_KEYS_PER_QUERY = 10_000  # 32 bytes each
_LOOK_UP = sa.select(score_cache).where(score_cache.c.key == sa.any_(sa.bindparam("keys", type_=pg.ARRAY(pg.BYTEA))))


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedScore:
    """A document score without its document: equal documents of different searches have ids of their own.

    Raises:
        InvalidScores (evaluation): `nats` is no finite number of at least 0, or `tokens` not positive.
    """

    #: sum over the answer tokens
    nats: float
    tokens: int
    #: each answer token was the model's first choice
    exact: bool

    def __post_init__(self) -> None:
        check_score(self.nats, self.tokens, of="a cached score")

    def about(self, document_id: str) -> DocumentScore:
        """The score of a document with the content that the key was made of."""
        return DocumentScore(document_id=document_id, nats=self.nats, tokens=self.tokens, exact=self.exact)


class ScoreCache:
    """The cache of one database, by :func:`evaluation.documents.score_key.score_key`, for reading;
    `storage.scores.acceptance` writes it. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retried()
    def get(self, keys: Sequence[bytes]) -> dict[bytes, CachedScore]:
        """The scores that are known of `keys`, in any order; none for keys that nobody has put.

        One query for ten thousand keys. Raises: DatabaseUnreachable, SchemaOutdated.
        """
        found: dict[bytes, CachedScore] = {}
        with self._database.transaction() as connection:
            for chunk in _chunks(keys):
                rows = connection.execute(_LOOK_UP, {"keys": chunk})
                found |= {row.key: CachedScore(nats=row.nats, tokens=row.tokens, exact=row.exact) for row in rows}
        return found


def _chunks(keys: Sequence[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        yield list(keys[start : start + _KEYS_PER_QUERY])
