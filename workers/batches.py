"""Tasks put together into messages: one candidate, a few documents, all with gradients or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workers.base import ScoringTask


@dataclass(kw_only=True, slots=True, eq=False)
class TaskBatch:
    """Consecutive tasks of one candidate, all with gradients or none, and what has happened to them.

    Owned by one run of one pool.
    """

    tasks: tuple[ScoringTask, ...]
    attempts: int = 0  # times handed to a worker
    raised: int = 0  # times a worker raised on it


def task_batches(tasks: Iterable[ScoringTask], *, size: int) -> Iterator[TaskBatch]:
    """Cut `tasks` where the candidate or what is asked of it changes and after `size` of them, in order.

    Takes no more tasks from the iterable than the batch needs, and one to see the change.
    """
    pending: list[ScoringTask] = []
    for task in tasks:
        if pending and not _go_together(pending[0], task):
            yield TaskBatch(tasks=tuple(pending))
            pending = []
        pending.append(task)
        if len(pending) == size:
            yield TaskBatch(tasks=tuple(pending))
            pending = []
    if pending:
        yield TaskBatch(tasks=tuple(pending))


def _go_together(left: ScoringTask, right: ScoringTask) -> bool:
    return (
        left.gradient == right.gradient
        and left.attention_factor == right.attention_factor
        and left.factors == right.factors
    )
