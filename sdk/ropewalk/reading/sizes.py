"""Sizes as they are spoken of: 100G is 100 x 1,024^3 bytes."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(\d{1,12})\s*([kmgt]?)(?:i?b)?")
_TIMES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def bytes_of(text: str) -> int:
    """The bytes of a size: "4096", "500M", "100G", "2T", with or without B or iB.

    Raises:
        ValueError: anything else.
    """
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"a size must be a whole number of bytes, or of K, M, G or T, as 100G, but got {text!r}")
    return int(found[1]) * _TIMES[found[2]]
