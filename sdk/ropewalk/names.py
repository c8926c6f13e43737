"""Names: of models at a revision, and what a name that nobody knows was meant to be."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_CLOSE = 0.6  # difflib's ratio; its own default
_COMMIT = re.compile(r"@([0-9a-f]{7})[0-9a-f]{33}$")


def at_revision(name: str, revision: str | None) -> str:
    """A model and its revision on the Hub as one name, "owner/model@revision"; without a revision the name alone."""
    return name if revision is None else f"{name}@{revision}"


def short_name(model: str) -> str:
    """A model's name for a column or a title: the last part of it, and of a commit the first digits."""
    return _COMMIT.sub(r"@\1", model).rstrip("/").rsplit("/", 1)[-1]


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: "; did you mean 'seed'?", or nothing where no known one is like it.

    Case, hyphens and underscores are no difference.
    """
    plain = {_plain(one): one for one in known}
    close = difflib.get_close_matches(_plain(str(name)), plain, n=1, cutoff=_CLOSE)
    return f"; did you mean {plain[close[0]]!r}?" if close else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
