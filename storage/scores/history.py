"""How a job's document scores came in: for pictures of a search, which need few scores of many."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from evaluation.scores.score import DocumentScore
from search_space.candidates.cost import GRADIENT_COST
from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.postgres.tables import document_scores

_columns = document_scores.c


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialPasses:
    """`documents` of one trial are scored; `passes` over documents of the split, and the `tokens` of those, were paid
    when the last of them was. A pass with gradients counts as ``GRADIENT_COST``.

    `nll` is the trial's mean over them, in nats per answer token.
    """

    documents: int
    passes: int
    tokens: int
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
    def passes(self, tokens_of: Callable[[str], int]) -> Mapping[int, TrialPasses]:
        """By trial; nothing for trials without a score. `tokens_of` says how many a document has, by its id."""
        with self._database.transaction() as connection:
            ids = connection.execute(sa.select(_columns.document_id).distinct().where(self._of_split)).scalars().all()
            if not ids:
                return {}
            rows = connection.execute(self._passes_query({name: tokens_of(name) for name in ids})).all()
        return {
            trial: TrialPasses(documents=documents, passes=int(passes), tokens=int(tokens), nll=mean)
            for trial, documents, passes, tokens, mean in rows
        }

    def _passes_query(self, tokens: Mapping[str, int]) -> sa.Select[int, int, int, int, float]:
        columns = (sa.column("name", sa.Text), sa.column("length", sa.BigInteger))
        lengths = sa.values(*columns, name="documents").data(list(tokens.items()))
        order = (_columns.created_at, _columns.trial, _columns.document_id)
        paid = sa.case((_columns.gradient.is_not(None), GRADIENT_COST), else_=1)
        passes = sa.func.sum(paid).over(order_by=order).label("passes")
        read = sa.func.sum(paid * lengths.c.length).over(order_by=order).label("read")
        scored = sa.join(document_scores, lengths, _columns.document_id == lengths.c.name)
        own = (_columns.trial, _columns.nats, _columns.tokens)
        paid_for = sa.select(*own, passes, read).select_from(scored).where(self._of_split).subquery()
        c = paid_for.c
        nll = sa.func.sum(c.nats) / sa.func.sum(c.tokens)
        query = sa.select(c.trial, sa.func.count(), sa.func.max(c.passes), sa.func.max(c.read), nll)
        return query.group_by(c.trial).order_by(c.trial)

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
