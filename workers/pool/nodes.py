"""Which machines of a cluster are left out, because workers fail there and not elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

import ray

_log = logging.getLogger(__name__)

MAX_FAILURES = 2  # in a row, without a finished batch on the machine in between


class Nodes:
    """Counts what fails on each machine of the cluster; owned by one pool.

    A machine is left out for as long as the pool lives, and never the last one: where everything fails, the pool's own
    bounds end the run.
    """

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self._left_out: dict[str, str] = {}

    @property
    def left_out(self) -> Mapping[str, str]:
        """Ray's node ids, each with the last reason."""
        return self._left_out

    def finished(self, node: str) -> None:
        """A worker there has done its work."""
        self._failures.pop(node, None)

    def failed(self, node: str, reason: str) -> None:
        """A worker there was lost."""
        self._failures[node] = self._failures.get(node, 0) + 1
        if self._failures[node] >= MAX_FAILURES and len(_alive() - {node, *self._left_out}) > 0:
            _log.warning("machine %s is left out after %d failures: %s", node, self._failures[node], reason)
            self._left_out[node] = reason


def selector(avoid: Collection[str]) -> dict[str, str]:
    """Ray's label selector for every machine but these."""
    return {"ray.io/node-id": f"!in({','.join(sorted(avoid))})"} if avoid else {}


def _alive() -> set[str]:
    """Machines that can hold a worker: with a CPU, in use or not."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0.0) >= 1}
