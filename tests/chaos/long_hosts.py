"""A search starts on one machine, which is cut off, and is ended by another that has nothing but the database."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from service.controller import LEASE_SECONDS
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from tests.helpers.chaos_everything import WORKER, Supervised, environment
from tests.helpers.chaos_hosts import Host, hosts, why_impossible
from tests.helpers.controllers import LONG, has_ended, submit
from tests.helpers.fencing import assert_fenced, passes
from tests.helpers.proxy import Proxy
from tests.helpers.studies import WholeStudy, whole_study
from tests.helpers.waiting import wait_until

IMPOSSIBLE = why_impossible()


def controller_on(host: Host, proxy: Proxy, home: Path) -> Supervised:
    """A controller with a Ray of its own, on `host`; `proxy` is the database as seen from there."""
    home.mkdir()
    return Supervised(
        name=host.name,
        arguments=("controller",),
        environment=environment(home, proxy.url),
        log=home / "controller.log",
        prefix=host.prefix,
    )


@pytest.mark.skipif(IMPOSSIBLE is not None, reason=IMPOSSIBLE or "")
@pytest.mark.timeout(600)
def test_another_machine_ends_the_search_from_the_database_alone(
    database: Database, database_url: str, long_study: WholeStudy, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        both = stack.enter_context(hosts(2))
        proxies = [stack.enter_context(Proxy(database_url, host=host.gateway)) for host in both]
        first, second = (
            controller_on(host, proxy, tmp_path / name)
            for host, proxy, name in zip(both, proxies, ("a", "b"), strict=True)
        )
        stack.callback(second.end)
        stack.callback(first.end)
        proxies[0].delay_seconds = 0.02  # so that the search is still going on when the second machine is up
        first.keep_alive()
        search_id = submit(database, **LONG)
        wait_until(lambda: passes(database, search_id) > 50, seconds=180)
        assert first.descendants(WORKER), "Ray workers score on the first machine"
        second.keep_alive()
        wait_until(lambda: "runs" in second.log.read_text(), seconds=120)
        both[0].cut_off()
        assert not has_ended(database, search_id)
        wait_until(lambda: has_ended(database, search_id), seconds=300)
        assert first.descendants(""), "the first machine lives on, alone"
    assert whole_study(database, search_id) == long_study
    assert_fenced(database, search_id)
    taken = [event for event in JobStore(database).events(search_id) if event.type == "job.taken_over"]
    assert len(taken) == 1
    late = taken[0].created_at - datetime.fromisoformat(json.loads(taken[0].data_json)["expired_at"])
    assert late < timedelta(seconds=LEASE_SECONDS)
