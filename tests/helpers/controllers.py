"""Controllers in processes of their own that start in no time: they are forked from one that has everything loaded."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from service.controller import Controller
from service.runtime.crash_points import crash_at, never
from service.runtime.failures import RetryPolicy
from service.specs.search import SearchSpec
from storage.jobs.store import JobStore
from storage.postgres import connecting
from storage.postgres.database import Database
from tests.helpers.pools import LocalPool

LEASE_SECONDS = 2.0
SOON = RetryPolicy(first_pause_seconds=0.1, longest_pause_seconds=0.2)


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What a controller process has to live with."""

    url: str
    home: Path
    owner: str = "a"
    crash: str | None = None
    pause_seconds: float = 0.0  # per document
    clock_skew_seconds: float = 0.0
    max_file_bytes: int | None = None
    lease_seconds: float = LEASE_SECONDS
    answer_seconds: float = connecting.ANSWER_SECONDS  # to wait for the database

    @property
    def passes(self) -> Path:
        """Grows by a byte with every document that is scored, accepted or not."""
        return self.home / "passes"


def control(given: Circumstances) -> None:
    """What the process does: run jobs on the analytic scorer until it is killed, or has reached its crash point."""

    def score(_: object) -> bool:
        with given.passes.open("ab", buffering=0) as passes:
            passes.write(b".")
        time.sleep(given.pause_seconds)
        return False

    connecting.ANSWER_SECONDS = given.answer_seconds
    given.home.mkdir(parents=True, exist_ok=True)
    if given.clock_skew_seconds:
        _move_clock(given.clock_skew_seconds)
    if given.max_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (given.max_file_bytes, given.max_file_bytes))
    controller = Controller(
        Database(given.url),
        home=given.home,
        owner=given.owner,
        lease_seconds=given.lease_seconds,
        poll_seconds=0.2,
        use_ray=False,
        retry=SOON,
        reach=never if given.crash is None else crash_at(given.crash),
        open_pool=lambda settings, workers: LocalPool(settings, refuse=score),
    )
    controller.run_forever()


def _move_clock(seconds: float) -> None:
    """The wall clock as Python tells it; the monotonic one, which no administrator can set, stays."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)


@contextmanager
def controller_process(url: str, home: Path, **circumstances: Any) -> Iterator[BaseProcess]:
    """A running controller (see :class:`Circumstances`); whatever is left of it at the end is killed."""
    given = Circumstances(url=url, home=home, **circumstances)
    process = _context().Process(target=control, args=(given,), name=given.owner, daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.helpers.warm"])
    return context


def search_spec(**changes: Any) -> dict[str, Any]:
    """A race of some 15 trials; they are pruned, extended and finished."""
    spec: dict[str, Any] = {
        "model": "pocket",
        "target_length": 512,
        "objective": {"documents": 4, "validation_documents": 4},
        "strategy": {"name": "auto", "startup": 4, "batch": 2, "generations": 2, "first_documents": 2, "leaders": 2},
        "scorer": {"backend": "analytic", "attention_factor": "search"},
        "seed": 3,
    }
    return spec | changes


def submit(database: Database, **changes: Any) -> str:
    """A queued search's id, without the checks of the door, which take seconds in a process that is not warm."""
    spec = SearchSpec.model_validate(search_spec(**changes))
    return JobStore(database).create("search", spec.canonical_json()).job.id


def has_ended(database: Database, search_id: str) -> bool:
    """Whether the search is in a final state."""
    return JobStore(database).get(search_id).state.is_final


#: What makes a search of 200 trials, ten of them baselines, and some 1,100 document passes.
LONG: dict[str, Any] = {
    "strategy": {
        "name": "evolution",
        "population": 32,
        "iterations": 9,
        "parents": 16,
        "mutations": 10,
        "crossovers": 8,
    },
    "objective": {"documents": 5, "validation_documents": 12},
    "budget": {"max_trials": 190},
}
