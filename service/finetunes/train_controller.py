"""What Ray Train keeps to itself: a handle on its controller, and which failures are lost workers.

The only place that uses what Ray Train does not promise to keep; Ray's version is pinned.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2._internal.execution.callback import ControllerCallback


class _TellController(ControllerCallback):
    def __init__(self, listener: Any) -> None:
        self._listener = listener

    def after_controller_start(self, train_run_context: object) -> None:
        """Runs in the controller's process."""
        self._listener.controller_started.remote(ray.get_runtime_context().current_actor)


def tell_controller(listener: Any) -> Any:
    """A callback for `RunConfig` that hands the controller to `listener.controller_started` when it has started."""
    return _TellController(listener)


def is_lost_worker(failure: Exception) -> bool:
    """Whether a failure in a `WorkerGroupError` is a process that has gone or hangs, and none that its code raised."""
    if isinstance(failure, WorkerHealthCheckFailedError):
        failure = failure.health_check_failure
    return isinstance(failure, WorkerHealthCheckTimeoutError | RayError) and not isinstance(failure, RayTaskError)


def raised_by_worker(failure: Exception) -> BaseException:
    """What our code in the worker raised, where that is what a failure in a `WorkerGroupError` wraps."""
    return failure._base_exc if isinstance(failure, UserExceptionWithTraceback) else failure
