from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.helpers.server_process import Served, server_directory


@pytest.fixture(scope="package")
def one_server() -> Iterator[Served]:
    """For all tests of this folder: a start costs half a minute."""
    with server_directory() as directory:
        with ExitStack() as exits:
            server = Served(directory / "home", exits)
            yield server
        assert server.stray_lines() == [], "after searches, kills and its end by SIGTERM too"


@pytest.fixture
def served(one_server: Served) -> Served:
    """It runs, whatever a test before has left."""
    one_server.ensure_ready()
    return one_server
