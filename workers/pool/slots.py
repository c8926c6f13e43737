"""One place in the pool, filled by one actor after another."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorHandleNotFoundError, RayError, RayTaskError

from evaluation.errors import EvaluationError
from ropewalk.errors import RopewalkError
from workers.base import ScorerSettings
from workers.errors import WorkersError
from workers.pool.actor import Batch, BatchReply, ScoringActor, WorkerIdentity, start_actor
from workers.pool.batches import TaskBatch
from workers.pool.loading import LoadingNote

_REASON_CHARACTERS = 500


class Slot:
    """Starts, opens, replaces and ends the actor in this place; not thread-safe.

    A slot is opening until its actor has loaded the model, then ready, and given up when it was lost too often.
    """

    def __init__(self, *, number: int, settings: ScorerSettings, gpus: float) -> None:
        self.number = number
        self.losses = 0  # in a row, since the last finished batch
        self.epoch = 0  # counts the actors that were here: tells an old actor's batches from the present one's
        self._settings = settings
        self._gpus = gpus
        self._start(avoid=())

    def _start(self, *, avoid: Collection[str]) -> None:
        self.identity: WorkerIdentity | None = None
        self._actor = start_actor(self._settings, gpus=self._gpus, avoid=avoid)
        self._asked_for_node = self._actor.node.remote()
        self._node: str | None = None
        self.note = LoadingNote()
        self.opening: ray.ObjectRef[WorkerIdentity] | None = self._actor.open.remote(self.note)
        self.opening_since = time.monotonic()

    def opened(self) -> None:
        """Take the actor's word that it is ready; called when `opening` is done.

        Raises:
            WorkersError, EvaluationError, RopewalkError: as opening the scorer raised it, without Ray's wrapping.
            RayError: the actor died, or raised something unforeseen.
        """
        assert self.opening is not None
        try:
            self.identity = ray.get(self.opening)
        except RayTaskError as error:
            if isinstance(error.cause, WorkersError | EvaluationError | RopewalkError):
                raise error.cause from None
            raise
        self.opening = None

    def submit(self, batch: Batch) -> ray.ObjectRef[BatchReply]:
        """Hand a batch to the actor, which takes them in turn."""
        return self._actor.score.remote(batch)

    @property
    def node(self) -> str | None:
        """Ray's id of the machine that the actor is on; None when it is on none yet, or died before it could say."""
        if self._node is None and ray.wait([self._asked_for_node], timeout=0)[0]:
            with suppress(RayError):
                self._node = ray.get(self._asked_for_node)
        return self._node

    def lose(self, *, max_restarts: int, avoid: Collection[str] = ()) -> None:
        """End the actor, and start another, on no machine in `avoid`, unless that was one loss too many."""
        self.losses += 1
        self.end()
        self.epoch += 1
        if self.losses > max_restarts:
            self.identity = self.opening = None
        else:
            self._start(avoid=avoid)

    def end(self) -> None:
        """Kill the actor, whatever it does. Its process ends with everything in it."""
        with suppress(ActorHandleNotFoundError):  # of a cluster that has died; this process has joined another since
            ray.kill(cast("ActorHandle[ScoringActor]", self._actor), no_restart=True)

    @property
    def given_up(self) -> bool:
        """No actor is here and none will be."""
        return self.identity is None and self.opening is None


@dataclass(frozen=True, kw_only=True, slots=True)
class InFlight:
    """A batch that a slot's actor has, or had."""

    batch: TaskBatch
    slot: Slot
    epoch: int

    @property
    def is_current(self) -> bool:
        """The actor that was given the batch is still in its slot."""
        return self.slot.epoch == self.epoch


def one_line(error: Exception) -> str:
    """What Ray says in paragraphs, as a line that ends where a line should."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    text = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
    return text if len(text) <= _REASON_CHARACTERS else text[: _REASON_CHARACTERS - 3] + "..."
