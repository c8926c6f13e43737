"""What a log line is about: ids that are bound where work begins and stand in every line that is written below.

Bound values follow a thread, a task and what runs in a thread pool on its behalf; a new thread starts without them
unless it is given a copy (`contextvars.copy_context().run`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

LogValue = str | int

_bound: ContextVar[Mapping[str, LogValue]] = ContextVar("ropewalk_log_context", default=MappingProxyType({}))


@contextmanager
def bound(**ids: LogValue) -> Iterator[None]:
    """Within the block every log line has `ids`, as `search_id` and `trial`, beside those bound outside."""
    token = _bound.set({**_bound.get(), **ids})
    try:
        yield
    finally:
        _bound.reset(token)


def current() -> Mapping[str, LogValue]:
    """What is bound here."""
    return _bound.get()
