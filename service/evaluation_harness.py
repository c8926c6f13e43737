"""lm-evaluation-harness on Ray: a process that runs it, and the controller's loop that waits for it."""

from collections.abc import Iterator, Sequence

import ray
from ray.exceptions import RayTaskError, WorkerCrashedError

from service.errors import RunFailed
from service.evaluation_progress import EvaluationProgress
from service.evaluation_result import HarnessRow
from service.runtime import Runtime
from workers.cluster import ensure_ray
from workers.errors import WorkersError
from workers.harness import HarnessRequest, HarnessScore, run_harness

POLL_SECONDS = 0.5


def run_harnesses(
    runtime: Runtime, requests: Sequence[tuple[str, HarnessRequest]], *, progress: EvaluationProgress
) -> Iterator[HarnessRow]:
    """A row for each metric of each task, for each (contender, request).

    Raises:
        LeaseLost, RunStopped: see `LeaseKeeper.check`; the process is killed.
        ScorerUnavailable, ScoringFailed: the harness is not there, or failed.
        RunFailed: its process died.
    """
    for name, request in requests:
        progress.note(f"harness: {name}")
        for score in _run(runtime, request):
            yield HarnessRow(name=name, score=score)
        progress.advance(f"harness: {name}")


def _run(runtime: Runtime, request: HarnessRequest) -> tuple[HarnessScore, ...]:
    ensure_ray()
    gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0))  # type: ignore[no-untyped-call]
    result = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0, max_calls=1)(run_harness).remote(request)
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
    except WorkerCrashedError as error:
        raise RunFailed("the process of lm-evaluation-harness died", code="WORKER_LOST") from error
    finally:
        ray.cancel(result, force=True)
