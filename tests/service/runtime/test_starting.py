"""Why workers are not at work yet, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.runtime.starting import loading, too_many, waiting_for
from workers.errors import ScorerUnavailable
from workers.pool.room import Room, check_holds_one, most_workers

ROOM = Room(workers=3, placed=0, most=4, gpus_each=0.0, cpus=4.0, free_cpus=0.0, gpus=0.0, free_gpus=0.0)
GPUS = replace(ROOM, gpus_each=1.0, gpus=2.0, free_gpus=1.0, free_cpus=3.0, most=2)


def test_what_a_worker_waits_for() -> None:
    assert waiting_for(ROOM) == ("a worker needs 1 CPU of one machine, and of the cluster's 0 of 4 CPUs are free")
    assert waiting_for(GPUS) == (
        "a worker needs 1 CPU and 1 GPUs of one machine, and of the cluster's 3 of 4 CPUs and 1 of 2 GPUs are free"
    )


def test_how_far_a_model_is_loaded_where_that_is_known() -> None:
    placed = replace(ROOM, placed=2)
    assert loading(placed, 12.3) == "2 of 3 workers load the model, 12 s so far"
    assert loading(replace(placed, loaded=0.344), 12.3) == (
        "2 of 3 workers load the model, 34% of its tensors in 12 s so far"
    )
    assert loading(replace(placed, loaded=1.0), 12.3) == (
        "2 of 3 workers load the model: its tensors are read, the first pass is under way, 12 s so far"
    )


def test_a_training_reads_its_text_first_and_may_be_long_at_its_first_step() -> None:
    training = replace(ROOM, workers=1, placed=1, together=True)
    assert loading(training, 12.3) == "1 of 1 workers read the text and load the model, 12 s so far"
    assert loading(replace(training, loaded=1.0), 12.3) == (
        "1 of 1 workers load the model: its tensors are read, the first step is under way, 12 s so far"
    )


def test_workers_that_begin_together_wait_for_all_of_their_places() -> None:
    assert waiting_for(replace(GPUS, together=True)) == (
        "each of 3 workers needs 1 CPU and 1 GPUs of one machine, all before any begins, and of the cluster's 3 of 4 "
        "CPUs and 1 of 2 GPUs are free"
    )
    assert waiting_for(replace(ROOM, workers=1, together=True)) == waiting_for(ROOM)
    assert replace(GPUS, free_gpus=3.0, together=True).is_free
    assert not replace(GPUS, together=True).is_free
    assert GPUS.is_free
    assert not ROOM.is_free


def test_a_cluster_that_cannot_hold_a_worker_is_told_after_a_while() -> None:
    check_holds_one([{"CPU": 2.0}], gpus_each=0.0, after_seconds=1)
    with pytest.raises(ScorerUnavailable, match="the most of its machines have 2 CPUs and 0 GPUs"):
        check_holds_one([{"CPU": 2.0}], gpus_each=1.0, after_seconds=1)
    with pytest.raises(ScorerUnavailable, match="have 0 CPUs and 0 GPUs"):
        check_holds_one([], gpus_each=0.0, after_seconds=1)


def test_more_workers_than_the_cluster_holds_are_told_with_both_numbers() -> None:
    assert too_many(None) is None
    assert too_many(ROOM) is None
    assert too_many(replace(ROOM, workers=1000)) == (
        "workers=1000 were asked for, but the cluster has 4 CPUs, room for 4: the job goes on with those that it gets"
    )
    assert "has 4 CPUs and 2 GPUs, room for 2" in str(too_many(GPUS))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=5), st.integers(1, 4))
def test_room_is_counted_machine_by_machine(machines: list[tuple[int, int]], gpus: int) -> None:
    nodes = [{"CPU": float(cpus), "GPU": float(has)} for cpus, has in machines]
    assert most_workers(nodes, gpus_each=0.0) == sum(cpus for cpus, _ in machines)
    assert most_workers(nodes, gpus_each=float(gpus)) == sum(min(cpus, has // gpus) for cpus, has in machines)


@pytest.mark.parametrize("share", [0.5, 0.3333, 0.1])
def test_parts_of_a_gpu_fit_as_often_as_they_are_parts(share: float) -> None:
    assert most_workers([{"CPU": 64.0, "GPU": 1.0}], gpus_each=share) == round(1 / share)
