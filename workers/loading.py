"""How far a model is read: the share of its tensors, told to whoever waits for it.

Who loads a model in this process opens :func:`heard_by`; what loads it, a backend or below, calls :func:`tell_share`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[Callable[[float], None] | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(listener: Callable[[float], None]) -> Iterator[None]:
    """While it lasts, `listener` hears of each tensor which share of them all, 0 to 1, has been read."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell_share(share: float) -> None:
    """Of what is being loaded; nothing happens where nobody listens."""
    if (listener := _listener.get()) is not None:
        listener(share)
