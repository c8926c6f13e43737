"""A scorer that refuses what it is told to, and may end the process: for tests of searches, no model needed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from evaluation.documents.needle import NeedleDocument
from evaluation.scores.score import DocumentScore
from ropewalk.rope.scaling import Scaling
from tests.helpers.pools import Killed
from workers.analytic_backend.scorer import AnalyticScorer
from workers.base import ScorerInfo, ScorerSettings
from workers.errors import ScoringFailed


class MoodyScorer:
    """The analytic scorer without gradients; refuses what is in `refused`, and dies after `die_after` documents."""

    def __init__(
        self, settings: ScorerSettings, refused: Collection[Scaling] = (), die_after: int | None = None
    ) -> None:
        self._scorer = AnalyticScorer(settings)
        self.refused, self.die_after = refused, die_after

    @property
    def info(self) -> ScorerInfo:
        return self._scorer.info

    def score(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
        if scaling in self.refused:
            raise ScoringFailed("refused by the test")
        if self.die_after is not None:
            self.die_after -= len(documents)
            if self.die_after < 0:
                raise Killed
        return self._scorer.score(scaling, documents)

    def close(self) -> None:
        self._scorer.close()
