"""A real `ropewalk serve` in a process group of its own, for tests that need the whole thing."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from sqlalchemy.exc import SQLAlchemyError

from api.client import ApiError
from api.errors import ServerUnreachable
from storage.errors import StorageError
from tests.helpers.waiting import wait_until

START_SECONDS = 120.0
SEARCH_SECONDS = 240.0


@contextmanager
def server(home: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ROPEWALK_", "RAY_"))}
    environment |= {"ROPEWALK_HOME": str(home), "ROPEWALK_PORT": str(port)}
    with (home.parent / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "serve"],
            env=environment,
            cwd=home.parent,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=90)


def wait_for(condition: Callable[[], bool], seconds: float, log: Path) -> None:
    """Return when `condition` holds; while nobody answers it does not."""
    wait_until(patiently(condition), seconds, log=log)


def patiently(condition: Callable[[], bool]) -> Callable[[], bool]:
    """The condition, false while who could tell is down."""

    def holds() -> bool:
        try:
            return condition()
        except (ServerUnreachable, ApiError, httpx.HTTPError, StorageError, SQLAlchemyError):
            return False

    return holds
