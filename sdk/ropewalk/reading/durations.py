"""Durations as they are spoken of: 90d is 90 days."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(\d{1,6})\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def seconds_of(text: str) -> int:
    """The seconds of a duration: "45s", "30m", "12h", "90d", "2w".

    Raises:
        ValueError: anything else.
    """
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"a duration must be a whole number of s, m, h, d or w, as 12h or 90d, but got {text!r}")
    return int(found[1]) * _SECONDS[found[2]]
