"""What a benchmark of scoring scores, and how two things are timed against each other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evaluation.documents.needle import NeedleDocument
from search_space.candidates.candidate import Candidate
from workers.base import Backend, ScorerSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What is scored: one model, one length, the documents of one seed, and two candidates to go between."""

    model: str  # as workers name it
    path: Path
    original_length: int
    target_length: int
    documents: tuple[NeedleDocument, ...]
    candidates: tuple[Candidate, Candidate]
    repeats: int

    def settings(self, backend: Backend) -> ScorerSettings:
        """A scorer of this model in float32 on one thread, so that every row divides like by like."""
        return ScorerSettings(
            model=self.model,
            backend=backend,
            dtype="float32",
            target_length=self.target_length,
            original_length=self.original_length,
            threads=1,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """One row: how much of `base` is `part`. `first` and `second` are medians, in `unit`."""

    part: str
    base: str
    first: float
    second: float
    ratio: float
    unit: str = "s"
    repeats: int

    def line(self) -> str:
        """The row of the table."""
        values = f"{self.first:.4g} {self.unit} | {self.second:.4g} {self.unit}"
        return f"| {self.part} | {self.base} | {values} | {self.ratio:.3g} | {self.repeats} |"


HEADER = "| this | against | this: median | against: median | ratio, median | repeats |\n|---|---|---|---|---|---|"


def in_turns(
    part: tuple[str, Callable[[], object]], base: tuple[str, Callable[[], object]], *, repeats: int, warm: bool = True
) -> Ratio:
    """Time both in turns, `repeats` times, and divide each pair: what slows the machine for a while slows both."""
    if warm:
        part[1]()
        base[1]()
    pairs = [(seconds(part[1]), seconds(base[1])) for _ in range(repeats)]
    return Ratio(
        part=part[0],
        base=base[0],
        first=statistics.median(first for first, _ in pairs),
        second=statistics.median(second for _, second in pairs),
        ratio=statistics.median(first / second for first, second in pairs),
        repeats=repeats,
    )


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock time of `call`."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
