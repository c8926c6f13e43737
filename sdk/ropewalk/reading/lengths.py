"""Lengths as they are spoken of: 32k is 32,768 tokens."""

from __future__ import annotations

import re

_LENGTH = re.compile(r"(\d{1,15})\s*([kKmM]?)")
_TIMES = {"": 1, "k": 1024, "m": 1024**2}


def tokens_of(text: str) -> int:
    """The tokens of a length: "4096", "32k" (32 x 1,024), "1M" (1,024 x 1,024).

    Raises:
        ValueError: anything else.
    """
    found = _LENGTH.fullmatch(text.strip().replace(",", "").replace("_", ""))
    if found is None:
        raise ValueError(f"a length must be a whole number of tokens, as 4096 or 32k, but got {text!r}")
    return int(found[1]) * _TIMES[found[2].lower()]
