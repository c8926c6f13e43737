"""How two things are timed against each other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self


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

    @classmethod
    def of(cls, part: str, base: str, pairs: Sequence[tuple[float, float]], *, unit: str = "s") -> Self:
        """The medians of both sides and of the quotients of `pairs`."""
        return cls(
            part=part,
            base=base,
            first=statistics.median(first for first, _ in pairs),
            second=statistics.median(second for _, second in pairs),
            ratio=statistics.median(first / second for first, second in pairs),
            unit=unit,
            repeats=len(pairs),
        )

    def line(self) -> str:
        """The row of the table."""
        values = f"{self.first:.4g} {self.unit} | {self.second:.4g} {self.unit}"
        return f"| {self.part} | {self.base} | {values} | {self.ratio:.3g} | {self.repeats} |"

    def each_of(self, calls: int) -> Ratio:
        """Where `part` was timed as so many calls: one of them."""
        return replace(self, first=self.first / calls, ratio=self.ratio / calls)


HEADER = "| this | against | this: median | against: median | ratio, median | repeats |\n|---|---|---|---|---|---|"


def in_turns(
    part: tuple[str, Callable[[], object]], base: tuple[str, Callable[[], object]], *, repeats: int, warm: bool = True
) -> Ratio:
    """Time both in turns, `repeats` times, and divide each pair: what slows the machine for a while slows both."""
    if warm:
        part[1]()
        base[1]()
    return Ratio.of(part[0], base[0], [(seconds(part[1]), seconds(base[1])) for _ in range(repeats)])


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock time of `call`."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
