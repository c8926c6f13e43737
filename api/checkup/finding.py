"""What a check says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from api.settings import Settings


class Verdict(Enum):
    """What a finding means for `ropewalk serve`."""

    good = "ok"
    absent = "absent"  # not there, or scarce, and not needed for everything
    broken = "broken"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line. detail: a sentence; where something is missing, with what does not work without it and what to do."""

    name: str
    verdict: Verdict
    detail: str


Check = Callable[[Settings], Finding]


def good(name: str, detail: str) -> Finding:
    """All is well."""
    return Finding(name=name, verdict=Verdict.good, detail=detail)


def broken(name: str, detail: str) -> Finding:
    """`serve` does not work so."""
    return Finding(name=name, verdict=Verdict.broken, detail=detail)


def absent(name: str, detail: str) -> Finding:
    """Something is missing, and the rest works."""
    return Finding(name=name, verdict=Verdict.absent, detail=detail)
