"""A real S3 server over HTTP, in a process of its own, that keeps its buckets in a directory and checks signatures."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.artifacts.objects import forget_clients
from tests.helpers.waiting import wait_until

KEY, SECRET = "ropewalk-tests", "a-secret-of-forty-characters-for-the-test"
BUCKET = "ropewalk-files"


@dataclass
class S3Server:
    """Its address, and how it is stopped and started again, as in an outage."""

    directory: Path
    port: int
    _process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        """What AWS's tools take as the endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes clients find it, as an operator sets it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def keys(self, bucket: str = BUCKET) -> list[str]:
        """What lies in the bucket, as the server's own disk has it."""
        root = self.directory / bucket
        found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        return sorted(key for key in found if not key.startswith("."))

    def path(self, key: str, bucket: str = BUCKET) -> Path:
        """An object, as a file."""
        return self.directory / bucket / key

    def start(self) -> None:
        """Begin to answer."""
        environment = os.environ | {"NANIO_ACCESS_KEY": KEY, "NANIO_SECRET_KEY": SECRET}
        command = [sys.executable, "-m", "nanio", "serve", "--data-dir", str(self.directory), "--host", "127.0.0.1"]
        self._process = subprocess.Popen(
            [*command, "--port", str(self.port), "--no-access-log", "--log-level", "error"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers)

    def stop(self) -> None:
        """Answer no more, from one moment to the next."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the S3 server has ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def s3_server(directory: Path) -> Iterator[S3Server]:
    """One that answers and has an empty bucket."""
    (directory / BUCKET).mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = S3Server(directory, port)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def shared_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(shared_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The server, as this process's environment names it."""
    for name, value in shared_s3.environment.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    yield shared_s3
    forget_clients()
