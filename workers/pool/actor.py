"""A scorer in a process of its own: the thin shell that Ray runs."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass

import ray
from ray.actor import ActorProxy

from evaluation.documents.needle import NeedleDocument
from evaluation.scores.score import DocumentScore
from ropewalk.rope.scaling import Scaling
from workers.base import Scorer, ScorerInfo, ScorerSettings
from workers.factory import make_scorer
from workers.pool.loading import LoadingNote
from workers.pool.nodes import selector
from workers.worker import score_or_explain, worker_name


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerIdentity:
    """A worker that has opened its scorer."""

    name: str  # "host:pid", as outcomes carry it
    pid: int
    info: ScorerInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One candidate on some documents, which stay in Ray's object store: a message of a few hundred bytes."""

    scaling: Scaling
    documents: tuple[ray.ObjectRef[NeedleDocument], ...]
    gradient: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchReply:
    """One entry per document, in order: its score, or why this candidate cannot be scored on it."""

    results: tuple[DocumentScore | str, ...]
    seconds: float
    worker: str  # WorkerIdentity.name
    scorer: str  # ScorerInfo.fingerprint() of the scorer that was asked


class ScoringActor:
    """Lives in a Ray process; holds one scorer and no other state.

    Bad candidates come back as values. What raises is trouble of the machine: the pool replaces the actor.
    """

    def __init__(self, settings: ScorerSettings) -> None:
        self._settings = settings
        self._scorer: Scorer | None = None

    @ray.method
    def node(self) -> str:
        """Ray's id of the machine, known before a model is loaded: loading may be what fails there."""
        node_id: str = ray.get_runtime_context().get_node_id()
        return node_id

    @ray.method
    def open(self, note: LoadingNote) -> WorkerIdentity:
        """Load the model. Separate from construction, so that its errors reach the pool as they were raised."""
        with note.kept():
            self._scorer = make_scorer(self._settings)
        return WorkerIdentity(name=worker_name(), pid=os.getpid(), info=self._scorer.info)

    @ray.method
    def score(self, batch: Batch) -> BatchReply:
        """Score a batch; at once and empty when the pool has cancelled it while it waited its turn."""
        assert self._scorer is not None, "the pool opens an actor before it sends batches"
        scorer = self._scorer.info.fingerprint()
        if ray.get_runtime_context().is_canceled():
            return BatchReply(results=(), seconds=0.0, worker=worker_name(), scorer=scorer)
        documents = tuple(ray.get(list(batch.documents)))
        started = time.perf_counter()
        results = score_or_explain(self._scorer, batch.scaling, documents, gradient=batch.gradient)
        return BatchReply(results=results, seconds=time.perf_counter() - started, worker=worker_name(), scorer=scorer)


def start_actor(settings: ScorerSettings, *, gpus: float, avoid: Collection[str] = ()) -> ActorProxy[ScoringActor]:
    """Ask Ray for a process with an actor in it, on none of the machines in `avoid`; returns at once. Ray does not
    restart it: the pool does."""
    actor_class = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(ScoringActor)
    return actor_class.options(label_selector=selector(avoid)).remote(settings)
