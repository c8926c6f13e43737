"""The simulation of many workers."""

import numpy as np
import pytest

from benchmarks.search.width import makespan, schedule


@pytest.mark.parametrize(("passes", "workers", "rounds"), [(1, 1, 1), (8, 4, 2), (9, 4, 3), (3, 64, 1), (200, 1, 200)])
def test_a_step_takes_its_rounds(passes: int, workers: int, rounds: int) -> None:
    span, work = makespan(passes, workers, np.random.default_rng(0))
    assert span == pytest.approx(rounds, rel=0.35)
    assert work == pytest.approx(passes, rel=0.3)
    assert span <= work <= span * workers + 1e-9


def test_one_worker_is_always_busy_and_many_wait_for_the_last_pass() -> None:
    steps = (104, 60, 84, 12)
    one, time_of_one = schedule(steps, 1)
    many, time_of_many = schedule(steps, 64)
    assert one == pytest.approx(1.0)
    assert many < 0.8
    assert sum(steps) / 64 < time_of_many < time_of_one / 10


def test_steps_of_whole_rounds_keep_more_workers_busy() -> None:
    assert schedule((128, 128, 128), 64)[0] > schedule((104, 60, 84, 88), 64)[0] + 0.1
