"""Two controllers on a core that has no time for them: one of them keeps the job, and its scores come in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from service.controller import LEASE_SECONDS
from storage.postgres.database import Database
from tests.helpers.controllers import controller_process, has_ended, submit
from tests.helpers.fencing import accepted, assert_fenced, claims
from tests.helpers.studies import WholeStudy, whole_study
from tests.helpers.waiting import wait_until

BUSY = 20  # processes on the core
SCORES = 24  # accepted while they are busy: several leases' time


@contextmanager
def busy_core(core: int) -> Iterator[None]:
    """Processes that do nothing but take its time, in the scheduling group that the controllers are in; the other cores
    are left to whoever else is at work."""
    with ExitStack() as stack:
        for _ in range(BUSY):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]))
            stack.callback(process.kill)
            os.sched_setaffinity(process.pid, {core})
        yield


def test_a_search_keeps_its_controller_and_ends_as_it_would_have(
    database: Database, database_url: str, undisturbed: WholeStudy, tmp_path: Path
) -> None:
    core = min(os.sched_getaffinity(0))
    with (
        controller_process(
            database_url, tmp_path / "a", owner="a", pause_seconds=0.2, lease_seconds=LEASE_SECONDS
        ) as a,
        controller_process(
            database_url, tmp_path / "b", owner="b", pause_seconds=0.2, lease_seconds=LEASE_SECONDS
        ) as b,
    ):
        for controller in (a, b):
            for thread in psutil.Process(controller.pid).threads():
                os.sched_setaffinity(thread.id, {core})
        search_id = submit(database)
        with busy_core(core):
            wait_until(lambda: len(accepted(database, search_id)) >= SCORES, seconds=500)
        wait_until(lambda: has_ended(database, search_id), seconds=120)
    assert whole_study(database, search_id) == undisturbed
    assert_fenced(database, search_id)
    assert len(claims(database, search_id)) == 1
    scored = sum(
        (tmp_path / owner / "passes").stat().st_size for owner in "ab" if (tmp_path / owner / "passes").exists()
    )
    assert scored == len(accepted(database, search_id))
