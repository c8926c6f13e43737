"""Seconds as rows of a table."""

from __future__ import annotations

from dataclasses import dataclass

HEADER = "| what | median | p99 | mean | n |\n|---|---|---|---|---|"


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """How long one thing took, again and again."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return self.quantile(0.5)

    @property
    def mean(self) -> float:
        """Seconds."""
        return sum(self.seconds) / len(self.seconds)

    def quantile(self, share: float) -> float:
        """The smallest value that `share` of all do not exceed."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def line(self) -> str:
        """The row, in milliseconds."""
        values = " | ".join(f"{1e3 * value:.2f} ms" for value in (self.median, self.quantile(0.99), self.mean))
        return f"| {self.name} | {values} | {len(self.seconds)} |"
