"""Tasks put together into messages: one candidate, a few documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workers.base import ScoringTask


@dataclass(kw_only=True, slots=True, eq=False)
class TaskBatch:
    """Consecutive tasks of one candidate, and what has happened to them; owned by one run of one pool."""

    tasks: tuple[ScoringTask, ...]
    attempts: int = 0  # times handed to a worker
    raised: int = 0  # times a worker raised on it


def task_batches(tasks: Iterable[ScoringTask], *, size: int) -> Iterator[TaskBatch]:
    """Cut `tasks` where the candidate changes and after `size` of them, in order.

    Takes no more tasks from the iterable than the batch needs, and one to see that the candidate changed.
    """
    pending: list[ScoringTask] = []
    for task in tasks:
        if pending and not _same_candidate(pending[0], task):
            yield TaskBatch(tasks=tuple(pending))
            pending = []
        pending.append(task)
        if len(pending) == size:
            yield TaskBatch(tasks=tuple(pending))
            pending = []
    if pending:
        yield TaskBatch(tasks=tuple(pending))


def _same_candidate(left: ScoringTask, right: ScoringTask) -> bool:
    return left.attention_factor == right.attention_factor and left.factors == right.factors
