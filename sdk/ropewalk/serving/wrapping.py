"""A method of somebody else's class with something around it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_MARK = "ropewalk_wrapped"


def wrap(owner: type, name: str, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a method by what `around` makes of it; once, however often it is asked for."""
    original = getattr(owner, name)
    if not getattr(original, _MARK, False):
        wrapped = functools.wraps(original)(around(original))
        setattr(wrapped, _MARK, True)
        setattr(owner, name, wrapped)
