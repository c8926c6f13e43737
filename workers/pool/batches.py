"""Tasks put together into messages: one candidate, a few documents, all with gradients or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from workers.base import ScoringTask
from workers.errors import WorkerLost

_MAX_RAISED = 2  # a batch that raises on two workers is not the workers' fault


@dataclass(kw_only=True, slots=True, eq=False)
class TaskBatch:
    """Consecutive tasks of one candidate, all with gradients or none, and what has happened to them.

    Owned by one run of one pool.
    """

    tasks: tuple[ScoringTask, ...]
    attempts: int = 0  # times handed to a worker
    raised: int = 0  # times a worker raised on it
    died: int = 0  # times a worker died on it
    worker: str = ""  # who has it, or had it last
    reasons: list[str] = field(default_factory=list)  # why each of them gave it up
    finished: list[int] = field(default_factory=list)  # batches that the pool had finished by then

    def note(self, reason: str, *, died: bool, finished: int) -> None:
        """The worker that has it died, or raised."""
        self.reasons.append(f"{self.worker}: {reason}")
        self.finished.append(finished)
        self.died += died
        self.raised += not died

    def is_given_up(self, *, max_died: int, finished: int) -> bool:
        """Whether the batch has failed too often, when the pool has `finished` others.

        Raises:
            WorkerLost: more than `max_died` workers died on it, and no other was finished since the first: their fault.
        """
        if self.died <= max_died:
            return self.raised >= _MAX_RAISED
        if self.finished[0] < finished:
            return True
        raise WorkerLost(
            f"a batch must not lose more than max_restarts={max_died} workers while nothing else is finished, "
            f"but the one of task {self.tasks[0].key} lost {self.died}: {self.tell()}"
        )

    def tell(self) -> str:
        """Every reason so far, on one line."""
        return "; ".join(self.reasons)


def task_batches(tasks: Iterable[ScoringTask], *, size: int, tokens: int) -> Iterator[TaskBatch]:
    """Cut `tasks` where the candidate or what is asked of it changes, after `size` of them, and before their documents
    have more than `tokens` together (one document may), in order.

    Takes no more tasks from the iterable than the batch needs, and one to see the change.
    """
    pending: list[ScoringTask] = []
    taken = 0
    for task in tasks:
        length = len(task.document.token_ids)
        if pending and not (_go_together(pending[0], task) and taken + length <= tokens):
            yield TaskBatch(tasks=tuple(pending))
            pending, taken = [], 0
        pending.append(task)
        taken += length
        if len(pending) == size:
            yield TaskBatch(tasks=tuple(pending))
            pending, taken = [], 0
    if pending:
        yield TaskBatch(tasks=tuple(pending))


def _go_together(left: ScoringTask, right: ScoringTask) -> bool:
    return left.gradient == right.gradient and left.scaling == right.scaling
