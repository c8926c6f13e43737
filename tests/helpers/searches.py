"""Searches that a controller in this process runs, with the analytic scorer and without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from service.artifacts.store import ArtifactStore
from service.controller import Controller
from service.door import Door
from service.runtime.failures import RetryPolicy
from service.runtime.job import OpenPool
from service.specs.search import SearchSpec
from storage.postgres.database import Database
from storage.records import Job
from tests.helpers.pools import LocalPool
from tests.helpers.waiting import wait_until

SPEC: dict[str, Any] = {
    "model": "pocket",
    "target_length": 512,
    "objective": {"documents": 3, "validation_documents": 4},
    "strategy": {
        "name": "evolution",
        "population": 6,
        "iterations": 2,
        "parents": 4,
        "mutations": 2,
        "crossovers": 2,
    },
    "scorer": {"backend": "analytic", "attention_factor": 1.0},
    "seed": 3,
}


RACING: dict[str, Any] = {
    **SPEC,
    "objective": {"documents": 8, "validation_documents": 12},
    "strategy": {"name": "auto", "startup": 5, "batch": 2, "generations": 3, "first_documents": 2, "leaders": 2},
    "scorer": {"backend": "analytic", "attention_factor": "search"},
}


@contextmanager
def controller(
    database: Database,
    home: Path,
    open_pool: OpenPool | None = None,
    *,
    lease_seconds: float = 2.0,
    retry: RetryPolicy | None = None,
    store: ArtifactStore | None = None,
) -> Iterator[Controller]:
    running = Controller(
        database,
        home=home,
        store=store,
        poll_seconds=0.05,
        lease_seconds=lease_seconds,
        retry=retry,
        use_ray=False,
        open_pool=open_pool or (lambda settings, workers: LocalPool(settings)),
    )
    running.start()
    try:
        yield running
    finally:
        running.stop()


def run_to_end(database: Database, home: Path, spec: dict[str, Any], open_pool: OpenPool | None = None) -> Job:
    door = Door(database)
    job = door.submissions.submit_search(SearchSpec.model_validate(spec)).job
    with controller(database, home, open_pool, lease_seconds=60.0):  # nobody dies, however busy the machine
        wait_until(lambda: door.job("search", job.id).state.is_final)
    return door.job("search", job.id)


def forget_scores(database: Database) -> None:
    """So that a second run of the same spec scores for itself."""
    with database.transaction() as connection:
        connection.execute(sa.text("TRUNCATE ropewalk.score_cache"))
