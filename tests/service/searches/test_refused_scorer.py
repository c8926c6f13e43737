"""A scorer that cannot be opened ends a search with the reason, before any trial has started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ropewalk.wire.kinds import JobState
from service.door import Door
from storage.postgres.database import Database
from storage.records import TrialState
from tests.helpers.controllers import search_spec
from tests.helpers.pools import LocalPool
from tests.helpers.searches import run_to_end
from workers.base import ScorerInfo
from workers.errors import ScorerUnavailable

REASON = "vLLM must be able to score a/model, but a model's rotary modules must be others, but got NewRotary"


class Refusing(LocalPool):
    """As the pool of workers, when the first of them opens its scorer."""

    def scorer(self, *, check: Callable[[], None] = lambda: None) -> ScorerInfo:
        raise ScorerUnavailable(REASON)


def test_it_ends_the_search_with_the_reason(database: Database, tmp_path: Path) -> None:
    job = run_to_end(database, tmp_path, search_spec(), lambda settings, workers: Refusing(settings))
    assert (job.state, job.error_code, job.error_message) == (JobState.failed, "SCORER_UNAVAILABLE", REASON)
    states = {trial.state for trial in Door(database).trials(job.id)}
    assert states <= {TrialState.waiting}
