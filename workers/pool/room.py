"""What a pool's workers need of a cluster, and what it has: why they are not at work yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """At one moment. Each worker takes one CPU and `gpus_each` GPUs of one machine.

    placed: workers that have got their place and load the model, or have loaded it; most: those for which the cluster
    has room while nothing else runs there.
    """

    workers: int
    placed: int
    most: int
    gpus_each: float
    cpus: float
    free_cpus: float
    gpus: float
    free_gpus: float


def most_workers(nodes: Sequence[Mapping[str, float]], *, gpus_each: float) -> int:
    """How many workers fit on machines with these resources, none of which is in use."""
    return sum(_on_one(node, gpus_each) for node in nodes)


def _on_one(node: Mapping[str, float], gpus_each: float) -> int:
    by_cpus = int(node.get("CPU", 0.0))
    return by_cpus if gpus_each == 0 else min(by_cpus, int(node.get("GPU", 0.0) / gpus_each + 1e-9))
