"""How a job's document scores came in: for pictures of a search, which need few scores of many."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from evaluation.scores.score import DocumentScore
from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.postgres.tables import document_scores

_columns = document_scores.c


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialPasses:
    """`documents` of one trial are scored; `passes` over documents of the split were paid when the last of them was.

    `nll` is the trial's mean over them, in nats per answer token.
    """

    documents: int
    passes: int
    nll: float

    def __post_init__(self) -> None:
        if not 1 <= self.documents <= self.passes:
            raise ValueError(
                f"a trial must have 1 to {self.passes} documents after {self.passes} passes, but got {self.documents}"
            )


class ScoreHistory:
    """The accepted scores of one job and split, in the order of the database's clock. Thread-safe; reads only."""

    def __init__(self, database: Database, job_id: str, split: str) -> None:
        self._database = database
        self._of_split = sa.and_(_columns.job_id == job_id, _columns.split == split)

    @retried()
    def passes(self) -> Mapping[int, TrialPasses]:
        """By trial; nothing for trials without a score."""
        order = (_columns.created_at, _columns.trial, _columns.document_id)
        position = sa.func.row_number().over(order_by=order).label("position")
        columns = (_columns.trial, _columns.nats, _columns.tokens)
        numbered = sa.select(*columns, position).where(self._of_split).subquery()
        nll = sa.func.sum(numbered.c.nats) / sa.func.sum(numbered.c.tokens)
        query = sa.select(numbered.c.trial, sa.func.count(), sa.func.max(numbered.c.position), nll)
        with self._database.transaction() as connection:
            rows = connection.execute(query.group_by(numbered.c.trial).order_by(numbered.c.trial)).all()
        return {
            trial: TrialPasses(documents=documents, passes=passes, nll=mean) for trial, documents, passes, mean in rows
        }

    @retried()
    def scores(self, trials: Collection[int]) -> Mapping[int, tuple[DocumentScore, ...]]:
        """The scores of these trials by trial, ordered by document id; nothing for trials without a score."""
        columns = (_columns.trial, _columns.document_id, _columns.nats, _columns.tokens, _columns.exact)
        query = sa.select(*columns).where(self._of_split, _columns.trial.in_(trials))
        found: dict[int, list[DocumentScore]] = {}
        with self._database.transaction() as connection:
            for trial, name, nats, tokens, exact in connection.execute(query.order_by(*columns[:2])):
                score = DocumentScore(document_id=name, nats=nats, tokens=tokens, exact=exact)
                found.setdefault(trial, []).append(score)
        return {trial: tuple(scores) for trial, scores in found.items()}
