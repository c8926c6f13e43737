"""How far a search is, for whoever shows it: a job's row, or a program that searches by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod

from search_space.candidates.cost import Spent
from search_space.strategies.base import Strategy
from service.runtime.job import Pace
from service.searches.loop import FinishedSearch, TracePoint, Watcher
from service.searches.validation import Round
from storage.records import Progress


class ProgressWatcher(Watcher, ABC):
    """Turns what a search does into `Progress`, and hands it to :meth:`tell`."""

    def __init__(self, strategy: Strategy) -> None:
        self._paces = {"searching": Pace(), "validating": Pace()}
        self._most = Spent(passes=strategy.max_document_passes, tokens=max(1, strategy.max_tokens))
        self._point = TracePoint(generation=0, trials=0, document_passes=0, tokens=0, leader=None)

    @abstractmethod
    def tell(self, progress: Progress, *, flush: bool) -> None:
        """Show it; with `flush` even if the last one was shown a moment ago."""

    def cached_passes(self) -> int:
        """Those of the search that nobody had to do."""
        return 0

    def document_scored(self, point: TracePoint) -> None:
        """See :class:`Watcher`."""
        self._report_search(point)

    def search_ended(self, point: TracePoint) -> None:
        """See :class:`Watcher`."""
        self._report_search(point, flush=True)

    def round_scored(self, current: Round, *, done: Spent, most: Spent) -> None:
        """See :class:`Watcher`; held-out passes come on top of those of the search documents."""
        searched = self._searched
        self._report(
            "validating",
            done=searched + done,
            most=searched + most,
            fraction=min(1.0, done.tokens / most.tokens),
            note=f"{len(current.trials)} finalists on {current.documents} held-out documents",
        )

    def validated(self, found: FinishedSearch) -> None:
        """Everything is scored: a search ends with all of its passes counted, however few it needed."""
        passes, tokens = found.search_passes + found.validation_passes, found.search_tokens + found.validation_tokens
        every = Spent(passes=passes, tokens=tokens)
        self._report("validating", done=every, most=every, fraction=1.0, note="the winner is known", flush=True)

    def _report_search(self, point: TracePoint, *, flush: bool = False) -> None:
        self._point = point
        fraction = min(1.0, self._searched.tokens / self._most.tokens)
        self._report("searching", done=self._searched, most=self._most, fraction=fraction, flush=flush)

    @property
    def _searched(self) -> Spent:
        return Spent(passes=self._point.document_passes, tokens=self._point.tokens)

    def _report(
        self, stage: str, *, done: Spent, most: Spent, fraction: float, note: str = "", flush: bool = False
    ) -> None:
        best = self._point.leader
        progress = Progress(
            stage=stage,
            generation=self._point.generation,
            trials=self._point.trials,
            document_passes=done.passes,
            total_document_passes=most.passes,
            tokens=done.tokens,
            total_tokens=most.tokens,
            cached_passes=self.cached_passes(),
            best_nll=None if best is None else best.nll,
            best_trial=None if best is None else best.trial,
            fraction=fraction,
            seconds_left=self._paces[stage].seconds_left(done.tokens, most.tokens),
            note=note,
        )
        self.tell(progress, flush=flush)
