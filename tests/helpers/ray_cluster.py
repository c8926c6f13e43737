"""A local Ray with two CPUs, started once for all tests that ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Connects this process; it is the tests' only cluster, but for those that are about starting one."""
    from workers.pool.cluster import ensure_ray, shutdown_ray  # Ray takes a second, which most tests need not wait for

    ensure_ray(num_cpus=2)
    yield
    shutdown_ray()
