"""Many workers, one stream of tasks in, one stream of outcomes out."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

import ray
from ray.exceptions import RayError, RayTaskError

from evaluation.documents.needle import NeedleDocument
from evaluation.errors import EvaluationError
from evaluation.scores.score import DocumentScore
from ropewalk.errors import RopewalkError
from workers.base import ScorerInfo, ScorerSettings, ScoringOutcome, ScoringTask
from workers.errors import InvalidScorerSettings, PoolBusy, ScorerClosed, WorkerLost, WorkersError
from workers.pool.actor import Batch, BatchReply, WorkerIdentity
from workers.pool.batches import TaskBatch, task_batches
from workers.pool.cluster import ensure_ray, is_any_machine_alive, machines, resources
from workers.pool.loading import furthest
from workers.pool.nodes import Nodes
from workers.pool.room import MOST_WAITING, Room, check_holds_one, gpu_share, most_workers
from workers.pool.slots import InFlight, Slot, one_line

_log = logging.getLogger(__name__)

_BATCHES_PER_WORKER = 1  # what a crash of this process costs: nothing is scored before the last score is accepted
_TOKENS_PER_BATCH = {"CPU": 1024, "GPU": 4096}  # as many short documents as share a forward pass, no more
_GROW_SECONDS = 10.0  # between two looks whether it has grown
_POLL_SECONDS = 0.5  # how soon a `close` from another thread is noticed


class ScoringPool:
    """Scores tasks on `workers` Ray actors, each with its own scorer.

    Guarantees: every task gets exactly one outcome, or `run` raises. A task may be *scored* more than once (its worker
    died), and gives the same numbers each time. Outcomes come as they finish, in no order.

    Work in flight: a worker has one batch, a document or as many short ones of a candidate as share a forward pass, and
    gets the next one when the caller asks for more. What ends this process costs no more than that.

    Failure: an error of a candidate is an outcome with `error` set, at once. A worker that dies is replaced, up to
    `max_restarts` times in a row without a finished batch in between; then the pool goes on with the others. When none
    is left, `run` raises WorkerLost with the last reason. A batch that failed is tried again once another has been
    finished, so that it is seen whose fault it is. It is given up, as an error outcome with every reason, when a second
    worker raises on it; or when `max_restarts` + 1 workers died on it while others finished theirs: one that dies may
    have been killed for other reasons. Where nothing else was finished, that is WorkerLost.

    A machine on which two workers in a row fail, while the cluster has others, gets no more of them: :attr:`left_out`.

    Workers start at construction, side by side, and are used as they become ready: a cluster with fewer free CPUs than
    `workers` serves with those it has, and with more once it grows. A document is put into Ray's object store when its
    first task comes, once, and stays there as long as the pool lives; messages to workers hold references.

    Provenance: every outcome carries the fingerprint of the scorer that gave it. Workers on unlike machines have unlike
    ones; :meth:`scorer` tells that of one which is ready, before anything is scored.

    Threads: a run belongs to one thread, and there is one at a time; `close` may be called from any thread. Joins or
    starts Ray through :func:`workers.pool.cluster.ensure_ray` when the process has not.

    Raises:
        InvalidScorerSettings: `workers`, `max_restarts` or `documents_per_batch` out of range.
    """

    def __init__(
        self,
        settings: ScorerSettings,
        *,
        workers: int,
        max_restarts: int = 3,
        documents_per_batch: int = 4,
        start_timeout_seconds: float = 600.0,
    ) -> None:
        _at_least(1, workers=workers, documents_per_batch=documents_per_batch)
        _at_least(0, max_restarts=max_restarts)
        ensure_ray()
        self._max_restarts = max_restarts
        self._documents_per_batch = documents_per_batch
        self._start_timeout_seconds = start_timeout_seconds
        self._closed = threading.Event()
        self._running = threading.Lock()
        self._last_reason = ""
        self._documents: dict[str, tuple[NeedleDocument, ray.ObjectRef[NeedleDocument]]] = {}
        self._in_flight: dict[ray.ObjectRef[BatchReply], InFlight] = {}
        self._retries: deque[TaskBatch] = deque()
        self._finished = 0  # batches, over all runs
        self._nodes = Nodes()
        self._gpus = gpu_share(settings, workers=workers, cluster_gpus=resources().all_of("GPU"))
        self._settings = settings
        self._workers = workers
        self._slots: list[Slot] = []
        self._grow()

    def __enter__(self) -> ScoringPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all workers. A run in progress raises ScorerClosed. May be called again, and from any thread."""
        if self._closed.is_set():
            return
        self._closed.set()
        if ray.is_initialized():
            for slot in self._slots:
                slot.end()

    @property
    def ready_workers(self) -> tuple[WorkerIdentity, ...]:
        """The workers that have opened their scorer, as far as the pool has heard of them."""
        return tuple(slot.identity for slot in self._slots if slot.identity is not None)

    @property
    def left_out(self) -> Mapping[str, str]:
        """Machines of the cluster that get no more workers of this pool, by Ray's id, each with its reason."""
        return self._nodes.left_out

    def room(self) -> Room:
        """What the workers need, and what the cluster has of it now."""
        placed = sum(slot.node is not None for slot in self._slots)
        loaded = furthest([slot.note for slot in self._slots if slot.opening is not None])
        return resources().room(workers=self._workers, gpus_each=self._gpus, placed=placed, loaded=loaded)

    def scorer(self, *, check: Callable[[], None] = lambda: None) -> ScorerInfo:
        """What scores here: waits for the first worker to have its model loaded, and scores nothing.

        `check` is called at least twice a second while waiting; what it raises ends the wait, and leaves the pool as it
        is: a later call or run goes on with the workers that were starting.

        Raises:
            ScorerUnavailable, WorkerLost, PoolBusy, ScorerClosed and the errors of opening a scorer: as `run` does.
        """
        with self._exclusive():
            while not self.ready_workers:
                check()
                for _ in self._wait():  # nothing is in flight: only workers that open
                    pass
            return self.ready_workers[0].info

    def run(
        self, tasks: Iterable[ScoringTask], *, check: Callable[[], None] = lambda: None
    ) -> Generator[ScoringOutcome, None, None]:
        """Score `tasks`, yielding outcomes as they finish.

        `check` is called at least twice a second, also while no worker is ready; what it raises ends the run.

        Tasks are taken from the iterable as workers have room, so it may be long and may be made on the way. Tasks of
        one candidate should follow each other: they travel and run together. Closing the generator cancels what is in
        flight: what waits in a worker's queue is dropped, what runs ends unheard.

        Raises:
            WorkerLost: workers died more often than the pool replaces them.
            ScorerUnavailable: the scorer cannot be opened where the workers run, or after `start_timeout_seconds` the
                cluster is still too small for one worker. One that is large enough but busy is waited for.
            EvaluationError, RopewalkError: the model cannot be resolved where the workers run.
            PoolBusy: another run of this pool is not finished. ScorerClosed: after `close`.
        """
        with self._exclusive():
            tokens = _TOKENS_PER_BATCH["GPU" if self._gpus else "CPU"]
            batches = task_batches(tasks, size=self._documents_per_batch, tokens=tokens)
            try:
                while self._submit(batches) or self._in_flight or self._retries:
                    check()
                    for batch, reply in self._wait():
                        yield from _outcomes(batch, reply)
            except RayError as error:
                raise WorkerLost(f"the Ray cluster must work, but it does not: {one_line(error)}") from error
            finally:
                self._cancel()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if self._closed.is_set():
            raise ScorerClosed("a pool must be open to run tasks, but close() was called")
        if not self._running.acquire(blocking=False):
            raise PoolBusy("a pool runs one stream of tasks at a time, but another run is not finished")
        try:
            yield
        finally:
            self._running.release()

    def _submit(self, batches: Iterator[TaskBatch]) -> bool:
        """Fill the ready workers, evenly; False when the tasks have come to their end."""
        while (slot := self._slot_with_room()) is not None:
            batch = self._next_batch(batches)
            if batch is None:
                return False
            assert slot.identity is not None  # it is ready
            batch.attempts, batch.worker = batch.attempts + 1, slot.identity.name
            entry = InFlight(batch=batch, slot=slot, epoch=slot.epoch)
            self._in_flight[slot.submit(self._message(batch))] = entry
        return True

    def _next_batch(self, batches: Iterator[TaskBatch]) -> TaskBatch | None:
        """A failed batch where another has been finished since; else a new one; else a failed one all the same."""
        if self._retries and self._retries[0].finished[-1] < self._finished:
            return self._retries.popleft()
        return next(batches, None) or (self._retries.popleft() if self._retries else None)

    def _slot_with_room(self) -> Slot | None:
        """The ready slot with the least to do, if any may have one more batch."""
        held = Counter(entry.slot.number for entry in self._in_flight.values() if entry.is_current)
        free = [slot for slot in self._slots if slot.identity and held[slot.number] < _BATCHES_PER_WORKER]
        return min(free, key=lambda slot: (held[slot.number], slot.number), default=None)

    def _message(self, batch: TaskBatch) -> Batch:
        first = batch.tasks[0]
        return Batch(
            scaling=first.scaling,
            documents=tuple(self._reference(task.document) for task in batch.tasks),
            gradient=first.gradient,
        )

    def _reference(self, document: NeedleDocument) -> ray.ObjectRef[NeedleDocument]:
        known = self._documents.get(document.id)
        if known is None or known[0] != document:  # equal in no time when it is the same object
            known = self._documents[document.id] = (document, ray.put(document))
        return known[1]

    def _wait(self) -> Iterator[tuple[TaskBatch, BatchReply]]:
        """Wait for the next thing to happen, at most a poll; batches that are done, with what became of them."""
        self._check_alive()
        if len(self._slots) < self._workers and time.monotonic() - self._grown_at > _GROW_SECONDS:
            self._grow()
        opening = {slot.opening: slot for slot in self._slots if slot.opening is not None}
        done, _ = ray.wait([*self._in_flight, *opening], num_returns=1, timeout=_POLL_SECONDS)
        for reference in done:
            if reference in opening:
                self._settle_opening(opening[reference])
            else:
                yield from self._settle_batch(reference)
        self._check_start()

    def _grow(self) -> None:
        """Start the workers that the cluster has room for, and a few more."""
        self._grown_at = time.monotonic()
        count = min(self._workers, most_workers(machines(), gpus_each=self._gpus) + MOST_WAITING)
        new = range(len(self._slots), count)
        self._slots += [Slot(number=number, settings=self._settings, gpus=self._gpus) for number in new]

    def _settle_opening(self, slot: Slot) -> None:
        try:
            slot.opened()
        except (WorkersError, EvaluationError, RopewalkError):
            raise  # the next worker would say the same
        except RayError as error:
            self._replace(slot, one_line(error))

    def _settle_batch(self, reference: ray.ObjectRef[BatchReply]) -> Iterator[tuple[TaskBatch, BatchReply]]:
        entry = self._in_flight.pop(reference)
        batch, slot = entry.batch, entry.slot
        try:
            reply = ray.get(reference)
        except RayError as error:
            reason = one_line(error)
            batch.note(reason, died=not isinstance(error, RayTaskError), finished=self._finished)
            if entry.is_current:
                self._replace(slot, reason)
            if batch.is_given_up(max_died=self._max_restarts, finished=self._finished):
                yield batch, BatchReply(results=(batch.tell(),) * len(batch.tasks), seconds=0.0, worker="", scorer="")
                return
            self._retries.append(batch)
        else:
            slot.losses = 0
            self._finished += 1
            if (node := slot.node) is not None:
                self._nodes.finished(node)
            yield batch, reply

    def _replace(self, slot: Slot, reason: str) -> None:
        _log.warning("worker %d is lost, number %d in a row: %s", slot.number, slot.losses + 1, reason)
        self._last_reason = reason
        if (node := slot.node) is not None:
            self._nodes.failed(node, reason)
        slot.lose(max_restarts=self._max_restarts, avoid=self.left_out)

    def _check_alive(self) -> None:
        if self._closed.is_set():
            raise ScorerClosed("a pool must stay open while it runs, but close() was called")
        if all(slot.given_up for slot in self._slots):
            raise WorkerLost(
                f"a worker must not be lost more than max_restarts={self._max_restarts} times in a row, "
                f"but each of {len(self._slots)} was; the last reason: {self._last_reason}"
            )

    def _check_start(self) -> None:
        """Give up on workers that the cluster could not hold if it were empty; wait on where it is merely busy."""
        waited = [time.monotonic() - slot.opening_since for slot in self._slots if slot.opening is not None]
        if self.ready_workers or not waited:
            return
        if not is_any_machine_alive():
            raise WorkerLost("a Ray cluster must have a machine, but none of this one's is alive")
        if max(waited) <= self._start_timeout_seconds:
            return
        check_holds_one(machines(), gpus_each=self._gpus, after_seconds=self._start_timeout_seconds)

    def _cancel(self) -> None:
        """Forget what is in flight, and tell the workers not to begin what they have not begun."""
        for reference, entry in self._in_flight.items():
            if entry.is_current and not self._closed.is_set():
                ray.cancel(reference)
        self._in_flight.clear()
        self._retries.clear()


def _outcomes(batch: TaskBatch, reply: BatchReply) -> Iterator[ScoringOutcome]:
    for task, result in zip(batch.tasks, reply.results, strict=True):
        yield ScoringOutcome(
            task_key=task.key,
            score=result if isinstance(result, DocumentScore) else None,
            error=None if isinstance(result, DocumentScore) else result,
            attempts=batch.attempts,
            seconds=reply.seconds / len(batch.tasks),
            worker=reply.worker,
            scorer=reply.scorer,
        )


def _at_least(low: int, **values: int) -> None:
    for name, value in values.items():
        if value < low:
            raise InvalidScorerSettings(f"{name} must be at least {low}, but got {name}={value}")
