"""Tasks put together into batches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from tests.helpers.samples import document
from workers.base import ScoringTask
from workers.errors import WorkerLost
from workers.pool.batches import TaskBatch, task_batches

MANY = 10**9


def task(number: int, *, candidate: int = 0, attention_factor: float = 1.0, gradient: bool = False) -> ScoringTask:
    return ScoringTask(
        key=str(number),
        scaling=Scaling(RescaleFactors((1.0 + candidate,)), attention_factor),
        document=document(0, length=16),
        gradient=gradient,
    )


def keys(tasks: list[ScoringTask], size: int) -> list[list[str]]:
    return [[one.key for one in batch.tasks] for batch in task_batches(tasks, size=size, tokens=MANY)]


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(1, 5))
def test_every_task_once_in_order_one_candidate_each(candidates: list[int], size: int) -> None:
    tasks = [task(number, candidate=candidate) for number, candidate in enumerate(candidates)]
    batches = list(task_batches(tasks, size=size, tokens=MANY))
    assert [one for batch in batches for one in batch.tasks] == tasks
    for batch in batches:
        assert 1 <= len(batch.tasks) <= size
        assert len({one.scaling.factors for one in batch.tasks}) == 1


def test_cut_at_the_candidate_and_at_the_size() -> None:
    tasks = [task(number, candidate=number // 5) for number in range(7)]
    assert keys(tasks, 4) == [["0", "1", "2", "3"], ["4"], ["5", "6"]]


def test_another_attention_factor_is_another_candidate() -> None:
    assert keys([task(0), task(1, attention_factor=1.1)], 4) == [["0"], ["1"]]


def test_tasks_with_and_without_gradients_are_not_mixed() -> None:
    tasks = [task(number, gradient=number in (1, 2)) for number in range(4)]
    assert keys(tasks, 4) == [["0"], ["1", "2"], ["3"]]


def test_documents_travel_together_as_long_as_they_are_short() -> None:
    tasks = [task(number) for number in range(5)]  # 16 tokens each
    assert [len(batch.tasks) for batch in task_batches(tasks, size=4, tokens=32)] == [2, 2, 1]
    assert [len(batch.tasks) for batch in task_batches(tasks, size=4, tokens=1)] == [1] * 5


def failed(*deaths: int) -> TaskBatch:
    """A batch that workers died on after the pool had finished so many others."""
    batch = TaskBatch(tasks=(task(0),))
    for number, finished in enumerate(deaths):
        batch.worker = f"w{number}"
        batch.note("it died", died=True, finished=finished)
    return batch


def test_what_workers_die_of_is_given_up_only_if_others_finish_meanwhile() -> None:
    assert not failed(0, 3, 5).is_given_up(max_died=3, finished=9)
    assert failed(0, 3, 5, 7).is_given_up(max_died=3, finished=7)
    assert failed(0, 0).tell() == "w0: it died; w1: it died"
    with pytest.raises(WorkerLost, match="w0: it died; w1: it died"):
        failed(4, 4).is_given_up(max_died=1, finished=4)


def test_no_more_tasks_are_taken_than_a_batch_needs() -> None:
    taken = 0

    def endless() -> Iterator[ScoringTask]:
        nonlocal taken
        while True:
            taken += 1
            yield task(taken)

    batches = task_batches(endless(), size=3, tokens=MANY)
    next(batches)
    assert taken == 3
