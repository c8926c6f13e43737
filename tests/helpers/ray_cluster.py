"""A local Ray with two CPUs, started once for all tests that ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

_STARTS = 4  # Ray gives its own daemon 30 seconds, which a busy machine may not have


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Connects this process; it is the tests' only cluster, but for those that are about starting one."""
    from workers.pool.cluster import shutdown_ray  # Ray takes a second, which most tests need not wait for

    _start(_STARTS)
    yield
    shutdown_ray()


def _start(times: int) -> None:
    from workers.errors import ScorerUnavailable
    from workers.pool.cluster import ensure_ray, shutdown_ray

    try:
        ensure_ray(num_cpus=2)
    except ScorerUnavailable:
        if times == 1:
            raise
        shutdown_ray()
        _start(times - 1)
