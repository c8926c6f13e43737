"""Prometheus text about the jobs in the database."""

import threading
import time
from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from search_space.version import ROPEWALK_VERSION
from service.door import Door
from storage.records import JOB_KINDS, JobKind, JobState

COUNTS_SECONDS = 10.0  # scrapes closer together than this share one count
PAGE = 200

Counts = Counter[tuple[JobKind, JobState]]


class _JobsCollector(Collector):
    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        jobs = GaugeMetricFamily("ropewalk_jobs", "Jobs by kind and state", labels=["kind", "state"])
        for kind in JOB_KINDS:
            for state in JobState:
                jobs.add_metric([kind, state.value], self._counts[kind, state])
        yield jobs
        yield InfoMetricFamily("ropewalk_build", "What is running", value={"version": ROPEWALK_VERSION})


class Metrics:
    """The metrics of one application. Thread-safe."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._lock = threading.Lock()
        self._counts: Counts = Counter()
        self._counted_at = float("-inf")

    def text(self) -> bytes:
        """The exposition format.

        Raises:
            StorageError: the database cannot be asked.
        """
        registry = CollectorRegistry()
        registry.register(_JobsCollector(self._fresh_counts()))
        return generate_latest(registry)

    def _fresh_counts(self) -> Counts:
        with self._lock:
            if time.monotonic() - self._counted_at >= COUNTS_SECONDS:
                self._counts = _count(self._door)
                self._counted_at = time.monotonic()
            return self._counts


def _count(door: Door) -> Counts:
    counts: Counts = Counter()
    for kind in JOB_KINDS:
        token: str | None = None
        while True:
            page = door.jobs(kind, limit=PAGE, page_token=token)
            counts.update((job.kind, job.state) for job in page.items)
            token = page.next_page_token
            if token is None:
                break
    return counts
