"""The pool on a real Ray: everything once, whatever dies."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from evaluation.documents.needle import NeedleDocument
from evaluation.errors import ModelNotFound
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from tests.helpers.outcomes import expected_scores, scores_of
from tests.helpers.samples import IDENTITY, STRETCHED, TARGET_LENGTH, document, documents
from tests.helpers.waiting import is_alive, wait_until
from workers.base import ScorerSettings, ScoringOutcome, ScoringTask
from workers.errors import InvalidScorerSettings, PoolBusy, ScorerClosed, ScorerUnavailable, WorkerLost
from workers.factory import make_scorer
from workers.pool.scoring import ScoringPool

pytestmark = pytest.mark.usefixtures("ray_cluster")

SHORT = documents(9, length=48)


def tasks_for(
    candidates: Sequence[RescaleFactors], samples: Sequence[NeedleDocument] = SHORT, attention_factor: float = 1.0
) -> list[ScoringTask]:
    return [
        ScoringTask(key=f"{number}/{one.id}", scaling=Scaling(factors, attention_factor), document=one)
        for number, factors in enumerate(candidates)
        for one in samples
    ]


def stretched_by(count: int) -> list[RescaleFactors]:
    return [RescaleFactors(tuple(value * (1 + 0.01 * step) for value in STRETCHED.values)) for step in range(count)]


class Deadly:
    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (1,)


@pytest.fixture(scope="module")
def slow_settings(analytic_settings: ScorerSettings) -> ScorerSettings:
    return dataclasses.replace(analytic_settings, delay_seconds=0.03)


@pytest.fixture(scope="class")
def pool(ray_cluster: None, analytic_settings: ScorerSettings) -> Iterator[ScoringPool]:
    """Two workers that nobody kills, for the tests that only talk to them; gone before others need their CPUs."""
    with ScoringPool(analytic_settings, workers=2) as opened:
        yield opened


class TestTalking:
    def test_every_task_once_with_the_numbers_of_a_scorer_here(
        self, pool: ScoringPool, analytic_settings: ScorerSettings
    ) -> None:
        tasks = tasks_for(stretched_by(6))
        outcomes = list(pool.run(iter(tasks)))
        assert scores_of(outcomes) == expected_scores(analytic_settings, tasks)
        assert {outcome.attempts for outcome in outcomes} == {1}
        assert all(outcome.error is None and outcome.seconds > 0 for outcome in outcomes)
        assert {outcome.worker for outcome in outcomes} <= {worker.name for worker in pool.ready_workers}

    def test_no_tasks_no_outcomes(self, pool: ScoringPool) -> None:
        assert list(pool.run([])) == []

    def test_a_bad_candidate_is_an_outcome_and_stops_nobody(
        self, pool: ScoringPool, analytic_settings: ScorerSettings
    ) -> None:
        tasks = tasks_for([IDENTITY, RescaleFactors.identity(3), STRETCHED])
        outcomes = list(pool.run(tasks))
        good = [task for task in tasks if task.scaling.factors != RescaleFactors.identity(3)]
        assert scores_of(outcomes) == dict.fromkeys((task.key for task in tasks), None) | expected_scores(
            analytic_settings, good
        )
        bad = [outcome for outcome in outcomes if outcome.score is None]
        assert {(outcome.task_key[0], outcome.attempts) for outcome in bad} == {("1", 1)}
        assert all(outcome.error and "one value per pair" in outcome.error for outcome in bad)

    def test_of_a_batch_only_the_document_at_fault_fails(self, pool: ScoringPool) -> None:
        samples = (*documents(2, length=48), document(2, length=TARGET_LENGTH + 1), document(3, length=48))
        outcomes = list(pool.run(tasks_for([STRETCHED], samples)))
        failed = [outcome for outcome in outcomes if outcome.error]
        assert [outcome.task_key for outcome in failed] == [f"0/{samples[2].id}"]
        assert "at most target_length=256" in str(failed[0].error)

    def test_one_id_two_documents_are_not_mixed_up(self, pool: ScoringPool, analytic_settings: ScorerSettings) -> None:
        longer = dataclasses.replace(document(0, length=64, answer_tokens=9), id=SHORT[0].id)
        counts = [next(iter(pool.run(tasks_for([IDENTITY], [one])))).score for one in (SHORT[0], longer, SHORT[0])]
        assert [score.tokens for score in counts if score] == [7, 9, 7]

    def test_tasks_are_taken_as_there_is_room(self, pool: ScoringPool) -> None:
        taken = 0

        def endless() -> Iterator[ScoringTask]:
            nonlocal taken
            while True:
                for task in tasks_for([IDENTITY]):
                    taken += 1
                    yield task

        run = pool.run(endless())
        for _ in range(3):
            next(run)
        run.close()
        assert taken <= 60

    def test_a_closed_run_leaves_the_pool_usable(self, pool: ScoringPool, analytic_settings: ScorerSettings) -> None:
        run = pool.run(tasks_for(stretched_by(20)))
        next(run)
        run.close()
        tasks = tasks_for([IDENTITY])
        assert scores_of(list(pool.run(tasks))) == expected_scores(analytic_settings, tasks)

    def test_one_run_at_a_time(self, pool: ScoringPool) -> None:
        run = pool.run(tasks_for([IDENTITY]))
        next(run)
        with pytest.raises(PoolBusy):
            next(pool.run(tasks_for([IDENTITY])))
        assert len(list(run)) == len(SHORT) - 1

    def test_who_is_working_there(self, pool: ScoringPool) -> None:
        assert pool.scorer().backend == "analytic"
        assert all(worker.pid != os.getpid() for worker in pool.ready_workers)

    def test_every_outcome_tells_what_scored(self, pool: ScoringPool) -> None:
        """A candidate's error too: it is that scorer which refused."""
        outcomes = list(pool.run(tasks_for([IDENTITY, RescaleFactors.identity(3)])))
        assert {outcome.error is None for outcome in outcomes} == {True, False}
        assert {outcome.scorer for outcome in outcomes} == {pool.scorer().fingerprint()}

    def test_asking_for_the_scorer_is_refused_during_a_run(self, pool: ScoringPool) -> None:
        run = pool.run(tasks_for([IDENTITY]))
        next(run)
        with pytest.raises(PoolBusy):
            pool.scorer()
        run.close()


class TestDying:
    def test_killed_workers_are_replaced_and_nothing_is_lost_or_doubled(self, slow_settings: ScorerSettings) -> None:
        tasks = tasks_for(stretched_by(8))
        outcomes: list[ScoringOutcome] = []
        killed: set[int] = set()
        with ScoringPool(slow_settings, workers=2) as pool:
            for outcome in pool.run(tasks):
                outcomes.append(outcome)
                if len(outcomes) in (5, 30):
                    victim = next(worker.pid for worker in pool.ready_workers if worker.pid not in killed)
                    os.kill(victim, signal.SIGKILL)
                    killed.add(victim)
        assert len(killed) == 2
        assert scores_of(outcomes) == expected_scores(slow_settings, tasks)
        assert max(outcome.attempts for outcome in outcomes) >= 2

    def test_the_last_worker_lost_too_often_ends_the_run_with_the_reason(self, slow_settings: ScorerSettings) -> None:
        with ScoringPool(slow_settings, workers=1, max_restarts=0) as pool:
            run = pool.run(tasks_for(stretched_by(8)))
            next(run)
            os.kill(pool.ready_workers[0].pid, signal.SIGKILL)
            with pytest.raises(WorkerLost, match=r"max_restarts=0.*ActorDiedError"):
                list(run)
            with pytest.raises(WorkerLost):  # and it stays lost, rather than waiting for nobody
                list(pool.run(tasks_for([IDENTITY])))

    def test_what_raises_on_two_workers_is_given_up_as_an_error(self, analytic_settings: ScorerSettings) -> None:
        """A scaling that is none: nothing the scorer foresees."""
        strange = [
            dataclasses.replace(task, scaling=cast("Scaling", "none")) for task in tasks_for([STRETCHED], SHORT[:1])
        ]
        good = [dataclasses.replace(task, key=f"good/{task.key}") for task in tasks_for([IDENTITY])]
        with ScoringPool(analytic_settings, workers=1) as pool:
            outcomes = list(pool.run([*strange, *good]))
        failed = [outcome for outcome in outcomes if outcome.error]
        assert [(one.task_key, one.attempts, one.scorer) for one in failed] == [(strange[0].key, 2, "")]
        first, second = str(failed[0].error).split("; ")
        assert all("AttributeError" in one for one in (first, second))
        assert first.split(": ")[0] != second.split(": ")[0], "two workers, two reasons"
        found = [outcome for outcome in outcomes if not outcome.error]
        assert scores_of(found) == expected_scores(analytic_settings, good)

    def test_what_workers_die_of_is_given_up_with_every_reason(self, analytic_settings: ScorerSettings) -> None:
        """Whoever unpickles this scaling is gone."""
        deadly = [
            dataclasses.replace(task, scaling=cast("Scaling", Deadly())) for task in tasks_for([STRETCHED], SHORT[:1])
        ]
        good = [dataclasses.replace(task, key=f"good/{task.key}") for task in tasks_for(stretched_by(2))]
        with ScoringPool(analytic_settings, workers=1, max_restarts=1, documents_per_batch=1) as pool:
            outcomes = list(pool.run([*deadly, *good]))
        failed = [outcome for outcome in outcomes if outcome.error]
        assert [(one.task_key, one.attempts) for one in failed] == [(deadly[0].key, 2)]
        assert str(failed[0].error).count("ActorDiedError") == 2
        assert scores_of([one for one in outcomes if not one.error]) == expected_scores(analytic_settings, good)

    def test_a_worker_has_one_document_and_the_next_when_the_caller_asks(self, slow_settings: ScorerSettings) -> None:
        taken: list[ScoringTask] = []

        def tasks() -> Iterator[ScoringTask]:
            for task in tasks_for([IDENTITY]):
                taken.append(task)
                yield task

        with ScoringPool(slow_settings, workers=1, documents_per_batch=1) as pool:
            run = pool.run(tasks())
            for number in range(1, 4):
                next(run)
                assert len(taken) == number
            run.close()

    def test_close_ends_the_processes(self, analytic_settings: ScorerSettings) -> None:
        pool = ScoringPool(analytic_settings, workers=1)
        pool.scorer()
        pid = pool.ready_workers[0].pid
        assert is_alive(pid)
        pool.close()
        pool.close()
        wait_until(lambda: not is_alive(pid))
        for ask in (pool.scorer, lambda: list(pool.run([]))):
            with pytest.raises(ScorerClosed):
                ask()

    def test_close_from_another_thread_ends_a_run(self, slow_settings: ScorerSettings) -> None:
        with ScoringPool(slow_settings, workers=1) as pool:
            run = pool.run(tasks_for(stretched_by(50)))
            next(run)
            threading.Timer(0.2, pool.close).start()
            with pytest.raises(ScorerClosed):
                list(run)


class TestStarting:
    def test_a_real_model_scores_there_as_it_does_here(self, transformers_settings: ScorerSettings) -> None:
        tasks = tasks_for([STRETCHED, IDENTITY], (*SHORT[:5], *documents(2)), attention_factor=1.1)
        with ScoringPool(transformers_settings, workers=1) as pool:
            assert scores_of(list(pool.run(tasks))) == expected_scores(transformers_settings, tasks)
            assert pool.ready_workers[0].info == make_scorer(transformers_settings).info

    def test_more_workers_than_the_cluster_has_cpus_for(self, analytic_settings: ScorerSettings) -> None:
        with ScoringPool(analytic_settings, workers=3) as pool:
            assert len(list(pool.run(tasks_for(stretched_by(3))))) == 27

    def test_a_model_that_is_not_there_is_said_so_and_not_tried_again(
        self, analytic_settings: ScorerSettings, tmp_path: Path
    ) -> None:
        settings = dataclasses.replace(analytic_settings, model=str(tmp_path / "nowhere"))
        with ScoringPool(settings, workers=1) as pool, pytest.raises(ModelNotFound, match="nowhere"):
            list(pool.run(tasks_for([IDENTITY])))

    def test_workers_that_the_cluster_cannot_place(self, analytic_settings: ScorerSettings) -> None:
        settings = dataclasses.replace(analytic_settings, gpus=1.0)
        with (
            ScoringPool(settings, workers=1, start_timeout_seconds=1.0) as pool,
            pytest.raises(ScorerUnavailable, match=r"1 CPU and 1 GPUs.* have 2 CPUs and 0 GPUs"),
        ):
            pool.scorer()

    def test_a_check_ends_the_wait_for_a_scorer_and_leaves_the_pool_usable(
        self, analytic_settings: ScorerSettings
    ) -> None:
        class Stopped(Exception):
            pass

        def stop() -> None:
            raise Stopped

        with ScoringPool(analytic_settings, workers=1) as pool:
            with pytest.raises(Stopped):
                pool.scorer(check=stop)
            assert pool.scorer() == make_scorer(analytic_settings).info

    @pytest.mark.parametrize("changes", [{"workers": 0}, {"workers": 1, "max_restarts": -1}])
    def test_impossible_settings(self, analytic_settings: ScorerSettings, changes: dict[str, int]) -> None:
        with pytest.raises(InvalidScorerSettings):
            ScoringPool(analytic_settings, **changes)
