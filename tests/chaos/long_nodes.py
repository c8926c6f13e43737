"""Machines of one Ray cluster that join a running search, and leave it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import ray
from ray.cluster_utils import Cluster

from ropewalk.rope.scaling import Scaling
from service.searches.prepare import prepare_search
from service.specs.search import SearchSpec
from tests.helpers.controllers import search_spec
from tests.helpers.outcomes import expected_scores, scores_of
from tests.helpers.server_process import own_environment
from tests.helpers.waiting import wait_until
from workers.base import ScorerSettings, ScoringOutcome, ScoringTask
from workers.pool.cluster import ensure_ray, resources, shutdown_ray
from workers.pool.scoring import ScoringPool


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that scores nothing."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    ensure_ray(made.address)
    yield made
    shutdown_ray()
    made.shutdown()  # type: ignore[no-untyped-call]


def tasks() -> tuple[ScorerSettings, list[ScoringTask]]:
    """What a search would score, slowly."""
    prepared = prepare_search(SearchSpec.model_validate(search_spec(objective={"documents": 40})))
    settings = ScorerSettings(
        model=prepared.model.worker_name,
        backend="analytic",
        target_length=512,
        original_length=256,
        rope=prepared.model.rope,  # as a search says it: else each worker reads the model's code before it starts
        delay_seconds=0.1,
    )
    step = prepared.strategy.propose(0, ())
    return settings, [
        ScoringTask(key=f"{trial}:{document.id}", scaling=one.scaling, document=document)
        for trial, one in enumerate(step.candidates[:8])
        for document in prepared.documents("search")
    ]


class DeadlyOn:
    """A scaling: whoever unpickles it on the machine `node` is gone, everybody else gets `scaling`."""

    def __init__(self, node: str, scaling: Scaling) -> None:
        self._arguments = node, scaling

    def __reduce__(self) -> tuple[object, ...]:
        return unless_on, self._arguments


def unless_on(node: str, scaling: Scaling) -> Scaling:
    if ray.get_runtime_context().get_node_id() == node:
        os._exit(1)
    return scaling


@pytest.mark.timeout(300)
def test_a_machine_on_which_workers_keep_dying_is_left_out(cluster: Cluster) -> None:
    settings, work = tasks()
    bad = cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    deadly = [replace(task, scaling=cast("Scaling", DeadlyOn(bad.node_id, task.scaling))) for task in work[:60]]
    with ScoringPool(settings, workers=2, documents_per_batch=1) as pool:
        outcomes = list(pool.run(deadly))
        assert set(pool.left_out) == {bad.node_id}
        assert "ActorDiedError" in pool.left_out[bad.node_id]
    assert scores_of(outcomes) == expected_scores(settings, work[:60])


@pytest.mark.timeout(300)
def test_machines_join_and_leave_a_running_search(cluster: Cluster) -> None:
    settings, work = tasks()
    outcomes: list[ScoringOutcome] = []
    here: dict[str, int] = {}
    first = cluster.add_node(num_cpus=1)
    with ScoringPool(settings, workers=2) as pool:
        for outcome in pool.run(work):
            outcomes.append(outcome)
            here[outcome.worker] = len(outcomes)
            if len(outcomes) == 20:
                assert len(here) == 1
                cluster.add_node(num_cpus=1)
            if len(here) == 2 and first is not None:
                cluster.remove_node(first)
                first = None
    assert scores_of(outcomes) == expected_scores(settings, work)
    assert first is None, "a worker on the second machine took part"
    assert min(here.values()) < len(outcomes), "and the one on the first is gone"
    assert sum(node["Alive"] for node in ray.nodes()) == 2  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_worker_joins_and_scores_from_a_batch_jobs_scratch_directory(
    variable: str, cluster: Cluster, tmp_path: Path
) -> None:
    """Too long for the names of Ray's sockets: those are where the head has its own."""
    scratch = tmp_path / "scratch-of-a-batch-job" / "job-1234567890" / "step-0" / "node-with-a-long-name"
    scratch.mkdir(parents=True)
    environment = own_environment() | {"RAY_ADDRESS": cluster.address, variable: str(scratch)}
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "worker", "--cpus", "1"], env=environment, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: resources().free.get("CPU") == 1.0, seconds=120, log=tmp_path / "log")
        settings, some = tasks()
        with ScoringPool(settings, workers=1) as pool:
            outcomes = list(pool.run(some[:2]))
        assert scores_of(outcomes) == expected_scores(settings, some[:2])
    finally:
        worker.terminate()
        worker.wait(60)
