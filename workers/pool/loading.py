"""How far a worker is with its model, told across processes while its actor is busy loading and answers nothing.

Notes go through the key-value store of Ray's head, which Ray calls internal: the only place that uses it, and Ray's
version is pinned.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from ray.exceptions import RayError
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

from evaluation.models.loading import heard_by, seldom

_NAMESPACE = b"ropewalk-loading"
_ASKED = 8
_CUT_OFF = (RayError, RuntimeError)  # the head is away: whoever needs it more says so


@dataclass(frozen=True, slots=True)
class LoadingNote:
    """One worker's, under a name of its own; goes with the message that makes it load."""

    key: bytes = field(default_factory=lambda: secrets.token_hex(8).encode())

    @contextmanager
    def kept(self) -> Iterator[None]:
        """In the worker: what is loaded inside is noted, and the note is gone afterwards."""

        def write(share: float) -> None:
            with suppress(*_CUT_OFF):
                _internal_kv_put(self.key, f"{share:.3f}".encode(), namespace=_NAMESPACE)

        try:
            with heard_by(seldom(write)):
                yield
        finally:
            with suppress(*_CUT_OFF):
                _internal_kv_del(self.key, namespace=_NAMESPACE)

    def share(self) -> float | None:
        """Of the model's tensors that the worker has read; None before the first note, and after the last."""
        with suppress(*_CUT_OFF):
            found = _internal_kv_get(self.key, namespace=_NAMESPACE)
            return None if found is None else float(found)
        return None


def furthest(notes: Sequence[LoadingNote]) -> float | None:
    """The share of the worker that is soonest ready, of a few that are asked; None where none has said anything."""
    return max((share for note in notes[:_ASKED] if (share := note.share()) is not None), default=None)
