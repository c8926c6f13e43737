"""A Ray that does not start leaves no process behind, and a long scratch directory is none of its troubles."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.waiting import is_alive, wait_until
from workers.errors import ScorerUnavailable
from workers.pool import ray_start
from workers.pool.ray_start import (
    MARK,
    MAX_DIRECTORY,
    START_ATTEMPTS,
    leaving_nothing,
    short_directory,
    start_patiently,
)

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


@pytest.mark.parametrize("failures", range(START_ATTEMPTS + 1))
def test_a_ray_that_is_late_is_started_again_and_said_to_be(failures: int, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def start() -> None:
        calls.append(len(calls))
        if len(calls) <= failures:
            raise Exception("The current node timed out\nduring startup.")

    if failures < START_ATTEMPTS:
        start_patiently(start)
    else:
        with pytest.raises(ScorerUnavailable, match=r"did not in 3 attempts: The current node timed out .* RAY_TMPDIR"):
            start_patiently(start)
    assert len(calls) == min(failures + 1, START_ATTEMPTS)
    assert [record.message.split(", as")[0][-6:] for record in caplog.records] == ["2 of 3", "3 of 3"][:failures]


def test_what_ray_refuses_is_not_asked_again() -> None:
    calls: list[int] = []

    def start() -> None:
        calls.append(1)
        raise ValueError("num_cpus must be at least 0")

    with pytest.raises(ScorerUnavailable, match="but did not: num_cpus"):
        start_patiently(start)
    assert len(calls) == 1


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
