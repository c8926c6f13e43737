"""A pool in this process that can fail as tests want it: one analytic scorer, whatever the settings name."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from workers.analytic_backend.scorer import AnalyticScorer
from workers.base import ScorerSettings, ScoringOutcome, ScoringTask
from workers.pool.in_process import InProcessPool


class Killed(BaseException):
    """Stands in for the end of the process: nothing in the service may catch it."""


class LocalPool(InProcessPool):
    """`order` may shuffle the tasks, `die_after` ends the process after so many, `refuse` makes a score an error."""

    scored = 0  # over all pools of a test: how many document passes were paid for

    def __init__(
        self,
        settings: ScorerSettings,
        *,
        order: Callable[[list[ScoringTask]], None] | None = None,
        die_after: int | None = None,
        refuse: Callable[[ScoringTask], bool] = lambda task: False,
    ) -> None:
        super().__init__(settings, AnalyticScorer(settings))
        self._order = order
        self._die_after = die_after
        self._refuse = refuse

    def run(
        self, tasks: Iterable[ScoringTask], *, check: Callable[[], None] = lambda: None
    ) -> Iterator[ScoringOutcome]:
        waiting = list(tasks)
        if self._order is not None:
            self._order(waiting)
        return super().run(waiting, check=check)

    def score(self, task: ScoringTask) -> ScoringOutcome:
        if self._die_after == 0:
            raise Killed
        if self._die_after is not None:
            self._die_after -= 1
        LocalPool.scored += 1
        refused = self._refuse(task)
        outcome = super().score(task)
        return replace(outcome, score=None, error="refused by the test") if refused else outcome
