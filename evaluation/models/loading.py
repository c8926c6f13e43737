"""How far a model is read: the share of its tensors, told to whoever waits for it.

Who loads a model in this process opens :func:`heard_by`; what loads it, a backend or below, calls :func:`tell_share`,
or goes through the tensors by :func:`telling`, as transformers does inside :func:`progress_told`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

_PAUSE_SECONDS = 0.5
_TENSORS = "Loading weights"  # what transformers writes beside its bar over a model's tensors

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


def seldom(listener: Callable[[float], None]) -> Callable[[float], None]:
    """One that passes on what `listener` is to hear: twice a second, and that all has been read."""
    told = -math.inf

    def hear(share: float) -> None:
        nonlocal told
        if share == 1.0 or time.monotonic() - told >= _PAUSE_SECONDS:
            told = time.monotonic()
            listener(share)

    return hear


@contextmanager
def progress_told() -> Iterator[None]:
    """The bar that transformers draws on stderr for every model, in every worker, is told to who listens instead."""
    import transformers  # a second or more, which readers of a model's config need not wait for

    settings: Any = transformers.utils.logging
    was_on, hook = settings.is_progress_bar_enabled(), settings.set_tqdm_hook(_counted)
    settings.disable_progress_bar()
    try:
        yield
    finally:
        settings.set_tqdm_hook(hook)
        if was_on:
            settings.enable_progress_bar()


def _counted(bar: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """What transformers goes through in the place of its bar: of a model's tensors, each is told of."""
    if named.get("desc") != _TENSORS:
        return bar(*args, **named)
    tensors: Collection[Any] = args[0]
    return telling(tensors, count=len(tensors))


def telling(tensors: Iterable[T], *, count: int) -> Iterator[T]:
    """The same ones; each is told of as one of `count`, and at the end that all have been read."""
    for number, tensor in enumerate(tensors):
        if number < count:
            tell_share(number / count)
        yield tensor
    tell_share(1.0)
