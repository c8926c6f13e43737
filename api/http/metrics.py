"""Prometheus text about all jobs of the database: what one API process reports holds for every controller."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ropewalk.version import ROPEWALK_VERSION
from ropewalk.wire.kinds import JOB_KINDS, JobState
from service.door import Door
from service.errors import FilesUnreachable
from storage.jobs.statistics import Statistics, Waiting

logger = logging.getLogger("ropewalk.metrics")

COUNTS_SECONDS = 10.0  # scrapes closer together than this share one count

FILES_SECONDS = 60.0  # a shared file system is slow to walk

_NOBODY = Waiting(jobs=0, longest_seconds=0.0)


class _StatisticsCollector(Collector):
    def __init__(self, found: Statistics, files: Mapping[str, int]) -> None:
        self._found = found
        self._files = files

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily("ropewalk_build", "What is running", value={"version": ROPEWALK_VERSION})
        yield from self._states()
        yield from self._work()
        yield from self._failures()
        deliveries = GaugeMetricFamily(
            "ropewalk_webhook_deliveries", "Changes told to webhooks in the last 30 days", labels=["outcome"]
        )
        for outcome, count in sorted(self._found.deliveries.items()):
            deliveries.add_metric([outcome], count)
        yield deliveries
        yield _bytes("ropewalk_database_bytes", "Bytes on the database's disk, with indexes", self._found.sizes)
        yield _bytes(
            "ropewalk_files_bytes", "Bytes of files that jobs have left, and of the home's caches", self._files
        )

    def _states(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("ropewalk_jobs", "Jobs by kind and state", labels=["kind", "state"])
        queue = GaugeMetricFamily("ropewalk_queue_depth", "Jobs that a controller could claim now", labels=["kind"])
        longest = GaugeMetricFamily(
            "ropewalk_queue_longest_seconds", "How long the longest of them has been waiting", labels=["kind"]
        )
        for kind in JOB_KINDS:
            for state in JobState:
                jobs.add_metric([kind, state.value], self._found.jobs.get((kind, state), 0))
            waiting = self._found.waiting.get(kind, _NOBODY)
            queue.add_metric([kind], waiting.jobs)
            longest.add_metric([kind], waiting.longest_seconds)
        yield from (jobs, queue, longest)
        yield GaugeMetricFamily("ropewalk_controllers", "Controllers that hold a job", value=self._found.controllers)

    def _work(self) -> Iterator[Metric]:
        scores = CounterMetricFamily(
            "ropewalk_document_passes",
            "Document passes whose scores were accepted, by what paid for them: a forward pass, or the score cache",
            labels=["kind", "source"],
        )
        tokens = CounterMetricFamily(
            "ropewalk_tokens", "Tokens of those passes, and of rows that were trained on", labels=["kind"]
        )
        for kind in JOB_KINDS:
            passes, cached = self._found.passes.get(kind, (0, 0))
            scores.add_metric([kind, "forward"], passes - cached)
            scores.add_metric([kind, "cache"], cached)
            tokens.add_metric([kind], self._found.tokens.get(kind, 0))
        stages = SummaryMetricFamily(
            "ropewalk_stage_seconds", "Seconds that jobs spent in a state before the next", labels=["kind", "stage"]
        )
        for (kind, stage), time_in in sorted(self._found.stages.items()):
            stages.add_metric([kind, stage], count_value=time_in.times, sum_value=time_in.seconds)
        yield from (scores, tokens, stages)

    def _failures(self) -> Iterator[Metric]:
        jobs = CounterMetricFamily("ropewalk_job_failures", "Jobs that failed, by error code", labels=["kind", "code"])
        for (kind, code), count in sorted(self._found.failed_jobs.items()):
            jobs.add_metric([kind, code], count)
        infrastructure = CounterMetricFamily(
            "ropewalk_infrastructure_failures", "Jobs requeued for another attempt, by reason", labels=["reason"]
        )
        for reason, count in sorted(self._found.infrastructure_failures.items()):
            infrastructure.add_metric([reason], count)
        yield from (jobs, infrastructure)
        yield CounterMetricFamily(
            "ropewalk_trial_failures", "Candidates that could not be scored", value=self._found.failed_trials
        )
        yield CounterMetricFamily(
            "ropewalk_lease_losses", "Leases that ran out, so that jobs were taken over", value=self._found.lease_losses
        )


def _bytes(name: str, what: str, sizes: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=["part"])
    for part, size in sorted(sizes.items()):
        family.add_metric([part], size)
    return family


class Metrics:
    """The metrics of one application. Thread-safe."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._lock = threading.Lock()
        self._found: Statistics | None = None
        self._counted_at = float("-inf")
        self._files: Mapping[str, int] = {}
        self._walked_at = float("-inf")

    def text(self) -> bytes:
        """The exposition format.

        Raises:
            StorageError: the database cannot be asked.
        """
        registry = CollectorRegistry()
        registry.register(_StatisticsCollector(*self._fresh()))
        return generate_latest(registry)

    def _fresh(self) -> tuple[Statistics, Mapping[str, int]]:
        with self._lock:
            if time.monotonic() - self._walked_at >= FILES_SECONDS:
                self._files = self._sizes()
                self._walked_at = time.monotonic()
            if self._found is None or time.monotonic() - self._counted_at >= COUNTS_SECONDS:
                self._found = self._door.statistics()
                self._counted_at = time.monotonic()
            return self._found, self._files

    def _sizes(self) -> Mapping[str, int]:
        """Nothing, where the store of files is away: everything else can still be told."""
        try:
            return self._door.file_sizes()
        except FilesUnreachable as error:
            logger.warning("sizes of files are not told: %s", error)
            return {}
