"""The pool without Ray: one scorer in this process, one task after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Self

from workers.base import Scorer, ScorerInfo, ScorerSettings, ScoringOutcome, ScoringTask
from workers.factory import make_scorer
from workers.worker import score_or_explain, worker_name


class InProcessPool:
    """The contract of :class:`workers.pool.scoring.ScoringPool` in one process, for tests, benchmarks and scripts.

    Outcomes come in the order of the tasks. Trouble of the machine is raised instead of tried again. `scorer` is the
    one to use and to close; None opens the one that `settings` name.
    """

    left_out: Mapping[str, str] = MappingProxyType({})

    def __init__(self, settings: ScorerSettings, scorer: Scorer | None = None) -> None:
        self._scorer = scorer or make_scorer(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scorer.close()

    def room(self) -> None:
        """There is no cluster to wait for."""
        return

    def scorer(self, *, check: Callable[[], None] = lambda: None) -> ScorerInfo:
        """What scores here."""
        check()
        return self._scorer.info

    def run(
        self, tasks: Iterable[ScoringTask], *, check: Callable[[], None] = lambda: None
    ) -> Iterator[ScoringOutcome]:
        """One outcome per task; `check` is called before each, and may raise to end the run."""
        for task in tasks:
            check()
            yield self.score(task)

    def score(self, task: ScoringTask) -> ScoringOutcome:
        """Score one task; what is the candidate's own fault comes back as a value."""
        started = time.perf_counter()
        (found,) = score_or_explain(self._scorer, task.scaling, (task.document,), gradient=task.gradient)
        return ScoringOutcome(
            task_key=task.key,
            score=None if isinstance(found, str) else found,
            error=found if isinstance(found, str) else None,
            attempts=1,
            seconds=time.perf_counter() - started,
            worker=worker_name(),
            scorer=self._scorer.info.fingerprint(),
        )
