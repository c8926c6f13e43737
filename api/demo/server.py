"""The demo's own server, in a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console

from api.demo.errors import DemoFailed
from ropewalk.client.errors import ApiError, ServerUnreachable
from ropewalk.client.sync import Client
from ropewalk.client.token import local_token

SERVER_START_SECONDS = 120.0


@contextmanager
def demo_server(directory: Path, console: Console) -> Iterator[str]:
    """A `ropewalk serve` of the demo's own on a free port; ended when the block ends.

    Raises:
        DemoFailed: it does not start; its log is named.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ROPEWALK_")}
    environment |= {"ROPEWALK_HOME": str(directory / "server"), "ROPEWALK_PORT": str(port)}
    environment.pop("RAY_ADDRESS", None)
    log_path = directory / "server.log"
    with log_path.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "serve"],
            env=environment,
            cwd=directory,  # away from a .env file, which may name a real database
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the demo, which then ends the server in order
        )
        try:
            with console.status("starting PostgreSQL, Ray and the server"):
                _wait_until_ready(url, process, log_path)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()


def token_of(directory: Path) -> str | None:
    """Of the demo's server in `directory`."""
    return local_token("http://127.0.0.1", directory / "server")


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log_path: Path) -> None:
    deadline = time.monotonic() + SERVER_START_SECONDS
    with Client(url) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                client.ready()
            except (ServerUnreachable, ApiError, httpx.HTTPError):
                time.sleep(0.2)
            else:
                return
    tail = "\n".join(log_path.read_text(encoding="utf-8").splitlines()[-5:])
    raise DemoFailed(f"the server did not become ready; the end of {log_path} says:\n{tail}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
