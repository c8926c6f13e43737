"""A search goes on at the standby that took its database's place: the old server is gone, or worse, still there."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.door import Door
from storage.postgres.database import Database
from storage.postgres.upgrading import upgrade
from tests.helpers.controllers import controller_process, has_ended, submit
from tests.helpers.fencing import accepted, assert_fenced
from tests.helpers.http_server import POCKET_SPEC, running_server
from tests.helpers.standby import execute, own_server, promote, standby, url_of_both, wait_for_replay
from tests.helpers.studies import WholeStudy, whole_study
from tests.helpers.waiting import wait_until

SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ropewalk' AND pid <> pg_backend_pid()"


@pytest.mark.parametrize("old", ["stopped", "read-only"])
def test_a_search_follows_its_database_to_the_standby(old: str, undisturbed: WholeStudy, tmp_path: Path) -> None:
    with own_server(tmp_path) as first, standby(first, tmp_path) as second:
        upgrade(first.url)
        both = Database(url_of_both(first, second))
        search_id = submit(both)
        with (
            running_server(both) as api,
            api.http as http,
            controller_process(both.url, tmp_path / "home", pause_seconds=0.1),
        ):
            wait_until(lambda: len(accepted(both, search_id)) > 3)
            if old == "stopped":
                first.stop()
            else:
                execute(first.url, "ALTER SYSTEM SET default_transaction_read_only = on")
                execute(first.url, "SELECT pg_reload_conf()")
                wait_until(lambda: http.get("/readyz").status_code == 503)
                answer = http.post("/v1/searches", json=POCKET_SPEC)
                assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_UNREACHABLE")
                wait_for_replay(first)
            promote(second)
            wait_until(lambda: Door(both).ready()[0])
            wait_until(lambda: has_ended(both, search_id))
            if old == "read-only":
                assert execute(first.url, SESSIONS) == 0, "nobody is left at the old server"
                first.stop()
            assert http.post("/v1/searches", json=POCKET_SPEC).status_code == 202
            assert execute(second.url, "SELECT count(*) FROM ropewalk.jobs") == 2
        assert whole_study(both, search_id) == undisturbed
        assert_fenced(both, search_id)
        both.close()
