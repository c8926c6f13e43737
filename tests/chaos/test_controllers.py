"""Controllers that are killed, stopped, cut off, raced against and lied to about the time: the study stays the same.

Short forms, with real controller processes on a real database and the analytic scorer. The long ones, with everything
that a server consists of, are in `long_*.py` beside this file, for `make test-chaos`.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from storage.jobs.store import JobStore
from storage.postgres.database import Database
from tests.helpers.controllers import LEASE_SECONDS, controller_process, has_ended, submit
from tests.helpers.fencing import accepted, assert_fenced, claims, passes
from tests.helpers.postgres import ending_sessions
from tests.helpers.proxy import Proxy
from tests.helpers.studies import WholeStudy, whole_study
from tests.helpers.waiting import wait_until

SLOW = 0.03  # seconds per document: a search then lasts some seconds


def has_gone_on(database: Database, search_id: str, *, to: int) -> bool:
    return len(accepted(database, search_id)) >= to or has_ended(database, search_id)


def test_a_killed_controller_is_replaced_within_two_leases_and_one_document_is_redone(
    database: Database, database_url: str, undisturbed: WholeStudy, tmp_path: Path
) -> None:
    search_id = submit(database)
    lease = 5.0  # seconds; leaves a busy machine time to take over in
    with (
        controller_process(database_url, tmp_path, owner="a", pause_seconds=SLOW, lease_seconds=lease) as first,
        controller_process(database_url, tmp_path, owner="b", pause_seconds=SLOW, lease_seconds=lease) as second,
    ):
        wait_until(lambda: passes(database, search_id) > 8)
        holder = JobStore(database).get(search_id).lease_owner
        os.kill(first.pid if holder == "a" else second.pid, signal.SIGKILL)  # type: ignore[arg-type]
        wait_until(lambda: has_ended(database, search_id))
    assert whole_study(database, search_id) == undisturbed
    assert_fenced(database, search_id)
    event, told = claims(database, search_id)[-1]
    assert {told["owner"], told["previous_owner"]} == {"a", "b"}
    # The kill came before the lease expired, so this is at most one period after the one that the lease had left.
    assert event.created_at - datetime.fromisoformat(told["expired_at"]) < timedelta(seconds=lease)
    redone = (tmp_path / "passes").stat().st_size - len(accepted(database, search_id))
    assert 0 <= redone < len(claims(database, search_id))


def test_a_controller_that_was_stopped_past_its_lease_writes_nothing_when_it_wakes_up(
    database: Database, database_url: str, undisturbed: WholeStudy, tmp_path: Path
) -> None:
    search_id = submit(database)
    with controller_process(database_url, tmp_path, owner="sleeper", pause_seconds=SLOW) as sleeper:
        wait_until(lambda: passes(database, search_id) > 8)
        assert sleeper.pid is not None
        os.kill(sleeper.pid, signal.SIGSTOP)
        with controller_process(database_url, tmp_path, owner="b", pause_seconds=SLOW):
            wait_until(lambda: JobStore(database).get(search_id).lease_owner == "b")
            before = passes(database, search_id)
            wait_until(lambda: passes(database, search_id) > before + 3)
            os.kill(sleeper.pid, signal.SIGCONT)
            wait_until(lambda: has_ended(database, search_id))
            assert sleeper.is_alive(), "it goes on, with other jobs"
    assert whole_study(database, search_id) == undisturbed
    assert_fenced(database, search_id)


def test_a_controller_that_was_stopped_with_nobody_to_take_over_goes_on(
    database: Database, database_url: str, undisturbed: WholeStudy, tmp_path: Path
) -> None:
    search_id = submit(database)
    with controller_process(database_url, tmp_path, pause_seconds=SLOW) as sleeper:
        wait_until(lambda: passes(database, search_id) > 8)
        assert sleeper.pid is not None
        os.kill(sleeper.pid, signal.SIGSTOP)
        time.sleep(2 * LEASE_SECONDS)
        os.kill(sleeper.pid, signal.SIGCONT)
        wait_until(lambda: has_ended(database, search_id))
    assert whole_study(database, search_id) == undisturbed
    assert len(claims(database, search_id)) == 1
    assert (tmp_path / "passes").stat().st_size == len(accepted(database, search_id)), "nothing was done twice"


def test_controllers_race_and_each_search_has_one(
    database: Database, database_url: str, undisturbed: WholeStudy, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        for owner in ("a", "b", "c"):
            stack.enter_context(controller_process(database_url, tmp_path, owner=owner))
        searches = [submit(database) for _ in range(2)]
        wait_until(lambda: all(has_ended(database, search_id) for search_id in searches))
    for search_id in searches:
        assert whole_study(database, search_id) == undisturbed
        assert_fenced(database, search_id)


def test_a_controllers_clock_decides_nothing(
    database: Database, database_url: str, undisturbed: WholeStudy, tmp_path: Path
) -> None:
    search_id = submit(database)
    with controller_process(database_url, tmp_path, owner="here", crash="after score:9", pause_seconds=SLOW) as dying:
        dying.join(timeout=120)
    with (
        controller_process(database_url, tmp_path, owner="early", clock_skew_seconds=-3600),
        controller_process(database_url, tmp_path, owner="late", clock_skew_seconds=3600),
    ):
        wait_until(lambda: has_ended(database, search_id))
    assert whole_study(database, search_id) == undisturbed
    assert_fenced(database, search_id)
    event, told = claims(database, search_id)[1]
    late = event.created_at - datetime.fromisoformat(told["expired_at"])
    assert timedelta(0) <= late < timedelta(seconds=LEASE_SECONDS), "neither early nor an hour late"


def test_a_full_disk_costs_the_artifact_and_not_the_search(
    database: Database, database_url: str, undisturbed: WholeStudy, tmp_path: Path
) -> None:
    search_id = submit(database)
    with controller_process(database_url, tmp_path, max_file_bytes=500):
        wait_until(lambda: has_ended(database, search_id))
    assert whole_study(database, search_id) == undisturbed
    failed = [event for event in JobStore(database).events(search_id) if event.type == "artifact.failed"]
    assert "File too large" in failed[0].data_json
    left = [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    assert left == [], "nothing half-written is left"


def test_sessions_that_end_all_the_time_are_made_anew(
    database: Database, database_url: str, undisturbed: WholeStudy, tmp_path: Path
) -> None:
    search_id = submit(database)
    with (
        controller_process(database_url, tmp_path, pause_seconds=SLOW),
        ending_sessions(database_url, every_seconds=0.3),
    ):
        wait_until(lambda: has_ended(database, search_id))
    assert whole_study(database, search_id) == undisturbed


def test_a_controller_that_is_cut_off_is_replaced_and_comes_to_itself(
    database: Database, database_url: str, undisturbed: WholeStudy, tmp_path: Path
) -> None:
    search_id = submit(database)
    with (
        Proxy(database_url) as proxy,
        controller_process(proxy.url, tmp_path, owner="far", pause_seconds=SLOW, answer_seconds=2.0),
    ):
        wait_until(lambda: passes(database, search_id) > 8)
        with proxy.swallow(), controller_process(database_url, tmp_path, owner="near"):
            wait_until(lambda: has_ended(database, search_id))
        assert claims(database, search_id)[-1][1]["owner"] == "near"
        assert_fenced(database, search_id)
        second = submit(database)
        wait_until(lambda: has_ended(database, second))
    for one in (search_id, second):
        assert whole_study(database, one) == undisturbed


def test_controllers_that_are_killed_at_random_end_the_search_all_the_same(
    database: Database, database_url: str, undisturbed: WholeStudy, tmp_path: Path
) -> None:
    rng, kills = random.Random(0), 0
    search_id = submit(database)
    while not has_ended(database, search_id):
        scored = len(accepted(database, search_id)) + rng.randint(15, 35)
        with controller_process(database_url, tmp_path, owner=f"c{kills}", pause_seconds=SLOW):
            wait_until(partial(has_gone_on, database, search_id, to=scored))
        kills += 1
    assert kills >= 3
    assert_fenced(database, search_id)
    assert whole_study(database, search_id) == undisturbed
    redone = (tmp_path / "passes").stat().st_size - len(accepted(database, search_id))
    assert 0 <= redone <= kills
