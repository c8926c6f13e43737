"""A pool in this process, for tests that are not about Ray: the same contract, one analytic scorer."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Self

from workers.analytic_backend.scorer import AnalyticScorer
from workers.base import ScorerInfo, ScorerSettings, ScoringOutcome, ScoringTask


class Killed(BaseException):
    """Stands in for the end of the process: nothing in the service may catch it."""


class LocalPool:
    """Scores one task after the other; `order` may shuffle them, `die_after` ends the process after so many."""

    left_out: Mapping[str, str] = MappingProxyType({})
    scored = 0  # over all pools of a test: how many document passes were paid for

    def __init__(
        self,
        settings: ScorerSettings,
        *,
        order: Callable[[list[ScoringTask]], None] | None = None,
        die_after: int | None = None,
        refuse: Callable[[ScoringTask], bool] = lambda task: False,
    ) -> None:
        self._scorer = AnalyticScorer(settings)
        self._order = order
        self._die_after = die_after
        self._refuse = refuse

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scorer.close()

    def scorer(self, *, check: Callable[[], None] = lambda: None) -> ScorerInfo:
        check()
        return self._scorer.info

    def run(
        self, tasks: Iterable[ScoringTask], *, check: Callable[[], None] = lambda: None
    ) -> Iterator[ScoringOutcome]:
        waiting = list(tasks)
        if self._order is not None:
            self._order(waiting)
        for task in waiting:
            check()
            if self._die_after == 0:
                raise Killed
            if self._die_after is not None:
                self._die_after -= 1
            yield self._score(task)

    def _score(self, task: ScoringTask) -> ScoringOutcome:
        LocalPool.scored += 1
        refused = self._refuse(task)
        scores = self._scorer.score(task.scaling, [task.document])
        return ScoringOutcome(
            task_key=task.key,
            score=None if refused else scores[0],
            error="refused by the test" if refused else None,
            attempts=1,
            seconds=0.0,
            worker="local",
            scorer=self._scorer.info.fingerprint(),
        )
