"""A controller process dies at each named point; another one ends the search as if nothing had happened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ropewalk.wire.kinds import JobState
from service.door import Door
from service.runtime.crash_points import EXIT_CODE, POINTS, crash_at
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from tests.helpers.controllers import controller_process, has_ended, submit
from tests.helpers.studies import WholeStudy, whole_study
from tests.helpers.waiting import wait_until

#: Which time a point is reached: in the middle of things where it is reached often.
TIMES = {"score": 23, "report": 17, "tell": 3}


def run_to_end(database: Database, url: str, home: Path, search_id: str, *, owner: str) -> None:
    with controller_process(url, home, owner=owner):
        wait_until(lambda: has_ended(database, search_id))


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_any_point_changes_nothing(
    point: str, database: Database, database_url: str, undisturbed: WholeStudy, tmp_path: Path
) -> None:
    search_id = submit(database)
    crash = f"{point}:{TIMES.get(point.split()[1], 1)}"
    pause = 0.02 if "renewal" in point else 0.0  # long enough for the lease to be renewed meanwhile
    with controller_process(database_url, tmp_path, crash=crash, pause_seconds=pause, lease_seconds=1.0) as dying:
        dying.join(timeout=120)
        assert dying.exitcode == EXIT_CODE
    assert has_ended(database, search_id) == (point == "after hand-off")
    run_to_end(database, database_url, tmp_path, search_id, owner="b")
    assert whole_study(database, search_id) == undisturbed
    owners = {json.loads(event.data_json).get("owner") for event in Door(database).events("search", search_id)}
    assert ("b" in owners) == (point != "after hand-off")


def test_a_search_hands_off_once_whatever_dies(database: Database, database_url: str, tmp_path: Path) -> None:
    search_id = submit(database, finetune={"steps": 1})
    for crash in ("before hand-off", "after hand-off"):
        with controller_process(database_url, tmp_path, crash=crash) as dying:
            dying.join(timeout=120)
            assert dying.exitcode == EXIT_CODE
    assert Door(database).job("search", search_id).state is JobState.finetuning
    (child,) = JobStore(database).list("finetune").items
    assert child.parent_id == search_id


@pytest.mark.parametrize("spec", ["", "after lunch", "after score:0", "after score:x", "score"])
def test_a_point_that_there_is_not_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="a crash point must be one of before claim"):
        crash_at(spec)
