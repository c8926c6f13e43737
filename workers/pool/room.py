"""What a pool's workers need of a cluster, and what it has: why they are not at work yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workers.base import ScorerSettings
from workers.errors import ScorerUnavailable

MOST_WAITING = 8
"""Workers of a pool for which the cluster has no room yet, by which one that grows sees what is wanted; thousands
would slow it down."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """At one moment. Each worker takes one CPU and `gpus_each` GPUs of one machine.

    placed: workers that have got their place and load the model, or have loaded it; most: those for which the cluster
    has room while nothing else runs there. together: none begins before all have their places. loaded: the share of the
    model's tensors that the furthest of those that load it has read, 0 to 1; None where that is not known.
    """

    workers: int
    placed: int
    most: int
    gpus_each: float
    cpus: float
    free_cpus: float
    gpus: float
    free_gpus: float
    together: bool = False
    loaded: float | None = None

    @property
    def is_free(self) -> bool:
        """Whether what is waited for is free already, so that processes are but starting."""
        count = self.workers if self.together else 1
        return self.free_cpus >= count and self.free_gpus >= count * self.gpus_each


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """Of a cluster at one moment, by Ray's names. nodes: what each machine has, in use or not; free: over all."""

    nodes: tuple[Mapping[str, float], ...]
    free: Mapping[str, float]

    def all_of(self, kind: str) -> float:
        """In use or not."""
        return sum(node.get(kind, 0.0) for node in self.nodes)

    def room(
        self, *, workers: int, gpus_each: float, placed: int = 0, together: bool = False, loaded: float | None = None
    ) -> Room:
        """For so many workers."""
        return Room(
            workers=workers,
            placed=placed,
            most=most_workers(self.nodes, gpus_each=gpus_each),
            gpus_each=gpus_each,
            cpus=self.all_of("CPU"),
            free_cpus=self.free.get("CPU", 0.0),
            gpus=self.all_of("GPU"),
            free_gpus=self.free.get("GPU", 0.0),
            together=together,
            loaded=loaded,
        )

    def room_for_scoring(self, settings: ScorerSettings, *, workers: int) -> Room:
        """For so many workers of a pool, none of which has a place."""
        return self.room(
            workers=workers, gpus_each=gpu_share(settings, workers=workers, cluster_gpus=self.all_of("GPU"))
        )


def check_holds_one(nodes: Sequence[Mapping[str, float]], *, gpus_each: float, after_seconds: float) -> None:
    """Raise ScorerUnavailable when no machine could hold a worker if it were empty."""
    if most_workers(nodes, gpus_each=gpus_each) > 0:
        return
    most_cpus, most_gpus = (max((node.get(kind, 0.0) for node in nodes), default=0.0) for kind in ("CPU", "GPU"))
    raise ScorerUnavailable(
        f"a cluster must have a machine with 1 CPU and {gpus_each:g} GPUs for a worker, but after "
        f"start_timeout_seconds={after_seconds:g} the most of its machines have {most_cpus:g} "
        f"CPUs and {most_gpus:g} GPUs"
    )


def most_workers(nodes: Sequence[Mapping[str, float]], *, gpus_each: float) -> int:
    """How many workers fit on machines with these resources, none of which is in use."""
    return sum(_on_one(node, gpus_each) for node in nodes)


def _on_one(node: Mapping[str, float], gpus_each: float) -> int:
    by_cpus = int(node.get("CPU", 0.0))
    return by_cpus if gpus_each == 0 else min(by_cpus, int(node.get("GPU", 0.0) / gpus_each + 1e-9))


def gpu_share(settings: ScorerSettings, *, workers: int, cluster_gpus: float) -> float:
    """GPUs that each of `workers` reserves: as the settings say, else an even share, at most one per rank."""
    if settings.gpus is not None:
        return settings.gpus
    if settings.backend == "analytic" or cluster_gpus == 0:
        return 0.0
    if settings.tensor_parallel > 1:
        return float(settings.tensor_parallel)
    if workers <= cluster_gpus:
        return 1.0
    return int(10_000 * cluster_gpus / workers) / 10_000  # Ray counts in ten-thousandths
