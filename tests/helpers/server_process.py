"""A real `ropewalk serve` in a process group of its own, for tests that need the whole thing."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy.exc import SQLAlchemyError

from api.local_token import ensure_token
from ropewalk.client.errors import ApiError, ServerUnreachable
from ropewalk.client.sync import Client
from storage.errors import StorageError
from tests.helpers.waiting import free_port, wait_until

START_SECONDS = 120.0
SEARCH_SECONDS = 240.0


def own_environment() -> dict[str, str]:
    """Without settings of ours and of Ray, but for how nice its workers are: tests/conftest.py says why."""
    ours = ("ROPEWALK_", "RAY_")
    return {key: value for key, value in os.environ.items() if key == "RAY_worker_niceness" or not key.startswith(ours)}


@contextmanager
def server_directory() -> Iterator[Path]:
    """Not below pytest's own: whenever another run of pytest starts on the machine, that takes from the directory of
    all runs the right of other accounts to pass, and from an embedded database, which has one, its files."""
    with tempfile.TemporaryDirectory(prefix="ropewalk-server-") as directory:
        yield Path(directory)


@pytest.fixture
def own_directory() -> Iterator[Path]:
    """See :func:`server_directory`."""
    with server_directory() as directory:
        yield directory


@contextmanager
def server(home: Path, port: int, *options: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = own_environment() | {"ROPEWALK_HOME": str(home), "ROPEWALK_PORT": str(port), **variables}
    with (home.parent / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "serve", *options],
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


def operator_of(home: Path, port: int) -> Client:
    """A client with the token of the server in `home`, which need not have started yet."""
    home.mkdir(parents=True, exist_ok=True)
    return Client(f"http://127.0.0.1:{port}", key=ensure_token(home))


class Served:
    """`ropewalk serve`, which may be killed and started again, and a client of it. Its log is of JSON lines."""

    def __init__(self, home: Path, exits: ExitStack) -> None:
        self.home, self.log = home, home.parent / "server.log"
        self._port, self._exits = free_port(), exits
        self.client = exits.enter_context(operator_of(home, self._port))
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        return self._exits.enter_context(server(self.home, self._port, ROPEWALK_LOG_FORMAT="json"))

    def stray_lines(self) -> list[str]:
        """What it, Ray or whoever else wrote and is no JSON."""
        return [line for line in self.log.read_text().splitlines() if not _is_object(line)]

    def ensure_ready(self) -> None:
        """Start it again if it has ended, and wait for its answer."""
        if self.process.poll() is not None:
            self.process = self._started()
        wait_for(lambda: self.client.ready() is not None, START_SECONDS, self.log)

    def kill(self) -> None:
        """With SIGKILL, and its group with it."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


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
