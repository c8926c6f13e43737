"""lm-evaluation-harness on Ray: a process that runs it, and the controller's loop that waits for it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import cast

import ray
from ray.actor import ActorHandle, ActorProxy
from ray.exceptions import RayError, RayTaskError

from ropewalk.wire.evaluation import HarnessRow
from service.errors import RunFailed
from service.evaluations.progress import EvaluationProgress
from service.runtime.job import Runtime
from service.runtime.starting import StartWatch
from workers.errors import WorkersError
from workers.harness.actor import HarnessActor
from workers.harness.run import HarnessRequest, HarnessScore
from workers.pool.cluster import ensure_ray, resources

POLL_SECONDS = 0.5


def run_harnesses(
    runtime: Runtime, requests: Sequence[tuple[str, HarnessRequest]], *, progress: EvaluationProgress
) -> Iterator[HarnessRow]:
    """A row for each metric of each task, for each (contender, request), all in one process.

    Raises:
        LeaseLost, RunStopped: see `LeaseKeeper.check`; the process is killed.
        ScorerUnavailable, ScoringFailed: the harness is not there, or failed.
        RunFailed: its process died.
    """
    ensure_ray()
    gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0))  # type: ignore[no-untyped-call]
    # An actor, which may be killed at any time: a task that is cancelled by force in the moment when it ends takes the
    # process that cancels it along (Ray 2.60 aborts: "Tried to complete task that was not pending").
    actor: ActorProxy[HarnessActor] = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(HarnessActor).remote()
    here = actor.here.remote()
    try:
        _wait_for_place(runtime, here, gpus)
        for name, request in requests:
            progress.note(f"harness: {name}")
            for score in _run(runtime, actor, request):
                yield HarnessRow(name=name, **asdict(score))
            progress.advance(f"harness: {name}")
    finally:
        ray.kill(cast("ActorHandle[HarnessActor]", actor))


def _wait_for_place(runtime: Runtime, here: ray.ObjectRef[None], gpus: float) -> None:
    watch = StartWatch(runtime, lambda: resources().room(workers=1, gpus_each=gpus))
    while not ray.wait([here], timeout=POLL_SECONDS)[0]:
        watch.check()
    runtime.set_condition("WorkersReady", True, "Ready", "lm-evaluation-harness runs")


def _run(runtime: Runtime, actor: ActorProxy[HarnessActor], request: HarnessRequest) -> tuple[HarnessScore, ...]:
    result = actor.run.remote(request)
    try:
        while True:
            runtime.keeper.check()
            done, _ = ray.wait([result], timeout=POLL_SECONDS)
            if done:
                return ray.get(result)
    except RayTaskError as error:
        if isinstance(error.cause, WorkersError):
            raise error.cause from None
        raise
    except RayError as error:  # also what Ray's memory monitor kills
        raise RunFailed("the process of lm-evaluation-harness died", code="WORKER_LOST") from error
