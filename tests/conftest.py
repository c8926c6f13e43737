"""What every test stands on: an environment without the developer's settings, one thread, and the shared fixtures.

Fixtures import what they need when they are asked for: a room without a database waits for none.
"""

from __future__ import annotations

import gc
import importlib.util
import multiprocessing.forkserver
import os
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.helpers.needs import needs
from tests.helpers.paths import SDK, STARTUP
from tests.helpers.postgres import database, database_url, empty_database_url, postgres_url, template_database
from tests.helpers.ray_cluster import ray_cluster
from tests.helpers.scheduling import TwoClusters
from tests.helpers.undisturbed import undisturbed

__all__ = [
    "database",
    "database_url",
    "empty_database_url",
    "postgres_url",
    "ray_cluster",
    "template_database",
    "undisturbed",
]

# Nothing above loads numpy or torch yet. Matrices here are small: several threads mostly wait for each other.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# Ray's workers run at niceness 15, to spare who works at the machine. Here that is the other test processes, and on two
# cores a worker that imports torch beside two of them gets next to nothing: most of what tests with Ray took was that.
os.environ.setdefault("RAY_worker_niceness", "0")

# Here, and in the processes that tests start: see there.
gc.set_threshold(50_000, 20, 20)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(STARTUP), str(SDK), os.environ.get("PYTHONPATH")]))

# A busy machine takes its time; that is no failure.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

SCRUBBED = ("ROPEWALK_", "PG", "RAY_ADDRESS")


def pytest_configure(config: pytest.Config) -> None:
    """Settings of the developer's shell reach no test, at import time either."""
    for name in [name for name in os.environ if name.startswith(SCRUBBED)]:
        del os.environ[name]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark each test with what it needs."""
    for marker in set(needs(item)):
        item.add_marker(marker)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ray's first, which are the longest way, and then files with slow tests: nothing long begins last."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.get_closest_marker("ray") is None, item.path not in slow))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """See there."""
    return TwoClusters(config, log)


def pytest_unconfigure() -> None:
    """The server that test processes are forked from would else outlive the run by a moment."""
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]


def pytest_report_header() -> str | None:
    """Say which tests are left out."""
    if importlib.util.find_spec("vllm") is not None:
        return None
    return "tests/vllm: not collected, because vLLM is not installed here; make test-vllm runs them"
