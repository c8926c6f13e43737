"""A Ray that does not start leaves no process behind, and a long scratch directory is none of its troubles."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.waiting import is_alive, wait_until
from workers.pool import ray_start
from workers.pool.ray_start import MARK, MAX_DIRECTORY, leaving_nothing, short_directory

# A child, and a grandchild in a session of its own whose parent ends at once.
ORPHAN = """
import subprocess
print(subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, start_new_session=True).pid, flush=True)
"""


def start_some() -> list[int]:
    child = subprocess.Popen(["sleep", "600"])
    told = subprocess.run([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True, check=True)
    return [child.pid, int(told.stdout)]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_start_that_fails_leaves_nothing(error: type[BaseException]) -> None:
    others = subprocess.Popen(["sleep", "600"])
    started: list[int] = []

    def start() -> None:
        with leaving_nothing():
            started.extend(start_some())
            raise error

    with pytest.raises(error):
        start()
    assert len(started) == 2
    wait_until(lambda: not any(map(is_alive, started)))
    assert is_alive(others.pid)
    assert MARK not in os.environ
    others.kill()
    others.wait()


def test_a_start_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_start, "START_SECONDS", 0.3)
    with leaving_nothing():
        started = start_some()
        wait_until(lambda: not any(map(is_alive, started)))


def test_a_start_that_succeeds_is_left_alone() -> None:
    with leaving_nothing():
        started = start_some()
    assert all(map(is_alive, started))
    for pid in started:
        os.kill(pid, 9)


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_only_a_directory_that_is_too_long_is_replaced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    assert short_directory() is None
    longest = "/" + (MAX_DIRECTORY - len("//ray")) * "x"
    monkeypatch.setenv(name, longest)
    assert short_directory() is None
    monkeypatch.setenv(name, longest + "x")
    replaced = short_directory()
    assert replaced is not None
    assert len(replaced) <= MAX_DIRECTORY
    assert Path(replaced).parent.stat().st_mode & 0o077 == 0
    assert len(f"{longest}/ray/session_2026-01-31_12-00-00_123456_1234567/sockets/plasma_store") <= 107
