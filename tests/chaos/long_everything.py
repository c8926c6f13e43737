"""A search of 200 trials while everything that it needs is killed, at random, again and again.

    make test-chaos

Minutes, so not among the tests of `make test`; the file's name keeps it from being collected there.
"""

from __future__ import annotations

import itertools
import random
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage.postgres.database import Database
from storage.postgres.upgrading import upgrade
from tests.helpers.chaos_everything import live_until, running_service
from tests.helpers.controllers import LONG, has_ended, search_spec
from tests.helpers.fencing import accepted, assert_fenced
from tests.helpers.postgres import fast_directory
from tests.helpers.server_process import operator_of, patiently
from tests.helpers.studies import WholeStudy, whole_study
from tests.helpers.waiting import free_port

SPEC = search_spec(**LONG)
KILLS = ("worker", "postgres", "worker", "api", "worker", "controller", "postgres", "worker", "raylet")
SCORES_BETWEEN = (25, 70)  # by what was done, not by the clock: on a slow machine as many kills, and an end
LIMIT_SECONDS = 480.0


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    path = (fast_directory() or tmp_path) / f"ropewalk-chaos-{uuid.uuid4().hex[:8]}"
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.timeout(700)
def test_whatever_is_killed_the_search_ends_as_if_nothing_had_happened(home: Path, long_study: WholeStudy) -> None:
    assert len(long_study.trials) == 200

    port, rng, kinds = free_port(), random.Random(5), itertools.cycle(KILLS)
    with running_service(home, port=port, controllers=2) as service, operator_of(home / "api", port) as api:
        upgrade(service.server.url)
        answering = patiently(lambda: api.ready() is not None)
        live_until(service, answering, seconds=180, each=lambda: None)
        search_id = api.submit(SPEC, idempotency_key="chaos").id
        with closing(Database(service.server.url)) as observed:
            next_kill = rng.randint(*SCORES_BETWEEN)

            def kill_now_and_then() -> None:
                nonlocal next_kill
                if patiently(lambda: len(accepted(observed, search_id)) >= next_kill)():
                    time.sleep(rng.uniform(0, 0.3))
                    service.kill(next(kinds), rng)
                    next_kill += rng.randint(*SCORES_BETWEEN)

            ended = patiently(lambda: has_ended(observed, search_id))
            live_until(service, ended, seconds=LIMIT_SECONDS, each=kill_now_and_then)
            live_until(service, answering, seconds=60, each=lambda: None)
            assert api.submit(SPEC, idempotency_key="chaos").id == search_id
            assert whole_study(observed, search_id) == long_study
            assert_fenced(observed, search_id)
    assert set(service.kills) == set(KILLS), service.kills
