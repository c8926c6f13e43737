"""The process that lm-evaluation-harness has for itself. Apart from :mod:`workers.harness.run`, which the server
imports before it has told Ray, by its environment, to keep to loopback."""

from __future__ import annotations

import ray

from workers.harness.run import HarnessRequest, HarnessScore, run_harness


class HarnessActor:
    """One request at a time; what the harness loads goes with the process."""

    @ray.method
    def here(self) -> None:
        """Answers once the process has its place."""

    @ray.method
    def run(self, request: HarnessRequest) -> tuple[HarnessScore, ...]:
        """See :func:`workers.harness.run.run_harness`."""
        return run_harness(request)
