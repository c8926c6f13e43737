"""What a name that nobody knows was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_CLOSE = 0.6  # difflib's ratio; its own default


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: "; did you mean 'seed'?", or nothing where no known one is like it.

    Case, hyphens and underscores are no difference.
    """
    plain = {_plain(one): one for one in known}
    close = difflib.get_close_matches(_plain(str(name)), plain, n=1, cutoff=_CLOSE)
    return f"; did you mean {plain[close[0]]!r}?" if close else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
