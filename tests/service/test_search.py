"""A whole search through the controller on a real database; only the scorer is analytic."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from service.controller import Controller
from service.door import Door
from service.runtime import OpenPool
from service.spec import SearchSpec
from storage.database import Database
from storage.records import Job, JobState, TrialRecord
from tests.service.pools import Killed, LocalPool
from workers.base import ScorerSettings, ScoringTask

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
    "scorer": {"backend": "analytic"},
    "seed": 3,
}


@contextmanager
def controller(database: Database, home: Path, open_pool: OpenPool | None = None) -> Iterator[Controller]:
    running = Controller(
        database,
        home=home,
        poll_seconds=0.05,
        lease_seconds=2.0,
        use_ray=False,
        open_pool=open_pool or (lambda settings, workers: LocalPool(settings)),
    )
    running.start()
    try:
        yield running
    finally:
        running.stop()


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def run_to_end(database: Database, home: Path, spec: dict[str, Any], open_pool: OpenPool | None = None) -> Job:
    door = Door(database)
    job = door.submit_search(SearchSpec.model_validate(spec)).job
    with controller(database, home, open_pool):
        wait_for(lambda: door.job("search", job.id).state.is_final)
    return door.job("search", job.id)


def essence(trials: tuple[TrialRecord, ...]) -> list[tuple[object, ...]]:
    """What must not depend on who scored when: everything but the search's id."""
    return [(t.number, t.generation, t.slot, t.candidate, t.state, t.nll) for t in trials]


def factors_of(job: Job) -> dict[str, Any]:
    assert job.result_json is not None
    file: dict[str, Any] = json.loads(job.result_json)["factors"]
    return {key: value for key, value in file.items() if key != "search"}


def test_a_search_ends_with_validated_factors(database: Database, tmp_path: Path) -> None:
    job = run_to_end(database, tmp_path, SPEC)
    assert job.state is JobState.succeeded, job.error_message
    door = Door(database)
    trials = door.trials(job.id)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert all(trial.nll is not None for trial in trials)
    assert {trial.generation for trial in trials} == {0, 1, 2}
    file = door.factor_file(job.id)
    assert file.validation is not None
    assert {result.name for result in file.baselines} >= {"none", "pi", "ntk", "yarn", "mrrope_pro", "cope"}
    assert (tmp_path / "artifacts" / job.id / "factors.json").read_text() == file.to_json()
    result = json.loads(job.result_json or "")
    assert result["finalists"][0]["nll"] == file.validation.nll
    assert file.validation.nll <= file.validation.best_baseline_nll
    search = door.scores(job.id, split="search")
    assert len(search) == len(trials) * SPEC["objective"]["documents"]
    validation_ids = {stored.score.document_id for stored in door.scores(job.id, split="validation")}
    assert len(validation_ids) == SPEC["objective"]["validation_documents"]
    assert validation_ids.isdisjoint({stored.score.document_id for stored in search})
    events = door.events("search", job.id)
    states = [json.loads(event.data_json)["to"] for event in events if event.type == "state.changed"]
    assert states == ["preparing", "searching", "validating", "succeeded"]
    types = [event.type for event in events]
    assert types.count("generation.finished") == 3
    assert "winner.chosen" in types


def test_the_order_of_scores_does_not_matter(database: Database, tmp_path: Path) -> None:
    straight = run_to_end(database, tmp_path, SPEC)

    def shuffled(settings: ScorerSettings, workers: int) -> LocalPool:
        return LocalPool(settings, order=random.Random(5).shuffle)

    other = run_to_end(database, tmp_path, SPEC, shuffled)
    door = Door(database)
    assert essence(door.trials(straight.id)) == essence(door.trials(other.id))
    assert factors_of(straight) == factors_of(other)


@pytest.mark.parametrize("die_after", [0, 2, 40, 80])
def test_a_killed_controller_is_replaced_and_nothing_changes(
    database: Database, tmp_path: Path, die_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run_to_end(database, tmp_path, SPEC)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)  # the thread that "dies"
    door = Door(database)
    job = door.submit_search(SearchSpec.model_validate(SPEC)).job
    with controller(database, tmp_path, lambda settings, _: LocalPool(settings, die_after=die_after)):
        wait_for(lambda: door.job("search", job.id).lease_epoch >= 1)
        wait_for(lambda: not any(thread.name == f"job-{job.id}" for thread in threading.enumerate()))
    assert not door.job("search", job.id).state.is_final
    LocalPool.scored = 0
    with controller(database, tmp_path):
        wait_for(lambda: door.job("search", job.id).state.is_final)
    assert essence(door.trials(job.id)) == essence(door.trials(undisturbed.id))
    assert factors_of(door.job("search", job.id)) == factors_of(undisturbed)
    finalists = len(json.loads(undisturbed.result_json or "")["finalists"])
    passes = len(door.trials(job.id)) * 3 + finalists * 4
    assert LocalPool.scored == passes - die_after  # no accepted score is paid for twice


def test_pause_and_resume_give_the_same_factors(database: Database, tmp_path: Path) -> None:
    undisturbed = run_to_end(database, tmp_path, SPEC)
    door = Door(database)
    job = door.submit_search(SearchSpec.model_validate(SPEC)).job

    class Slow(LocalPool):
        def _score(self, task: ScoringTask) -> Any:
            time.sleep(0.02)
            return super()._score(task)

    with controller(database, tmp_path, lambda settings, _: Slow(settings)):
        wait_for(lambda: door.job("search", job.id).progress.document_passes > 12)
        door.request("search", job.id, "pause")
        wait_for(lambda: door.job("search", job.id).state is JobState.paused)
        assert door.job("search", job.id).lease_owner is None
        door.request("search", job.id, "resume")
        wait_for(lambda: door.job("search", job.id).state.is_final)
    assert essence(door.trials(job.id)) == essence(door.trials(undisturbed.id))
    assert factors_of(door.job("search", job.id)) == factors_of(undisturbed)


def test_cancel_keeps_the_trials(database: Database, tmp_path: Path) -> None:
    door = Door(database)
    job = door.submit_search(SearchSpec.model_validate(SPEC)).job

    class Slow(LocalPool):
        def _score(self, task: ScoringTask) -> Any:
            time.sleep(0.02)
            return super()._score(task)

    with controller(database, tmp_path, lambda settings, _: Slow(settings)):
        wait_for(lambda: door.job("search", job.id).progress.document_passes > 12)
        door.request("search", job.id, "cancel")
        wait_for(lambda: door.job("search", job.id).state is JobState.cancelled)
    assert len(door.trials(job.id)) > 0
    assert len(door.scores(job.id, split="search")) > 12


def test_a_candidate_that_cannot_be_scored_fails_alone(database: Database, tmp_path: Path) -> None:
    def refuse_trial_9(settings: ScorerSettings, workers: int) -> LocalPool:
        return LocalPool(settings, refuse=lambda task: task.key.startswith("9:"))

    job = run_to_end(database, tmp_path, SPEC, refuse_trial_9)
    assert job.state is JobState.succeeded, job.error_message
    trials = Door(database).trials(job.id)
    assert [trial.number for trial in trials if trial.nll is None] == [9]
    assert trials[9].reason == "refused by the test"


@pytest.mark.parametrize(
    ("budget", "bred"), [({"max_trials": 5}, 5), ({"max_trials": 10}, 10), ({"max_document_passes": 36}, 4)]
)
def test_the_budget_is_kept(database: Database, tmp_path: Path, budget: dict[str, int], bred: int) -> None:
    job = run_to_end(database, tmp_path, {**SPEC, "budget": budget})
    trials = Door(database).trials(job.id)
    assert sum(trial.candidate.baseline_name is None for trial in trials) == bred


def test_patience_ends_a_search_without_progress(database: Database, tmp_path: Path) -> None:
    spec = {**SPEC, "budget": {"patience": 1}, "strategy": {**SPEC["strategy"], "iterations": 40}}
    job = run_to_end(database, tmp_path, spec)
    assert job.state is JobState.succeeded, job.error_message
    bred = [t for t in Door(database).trials(job.id) if t.candidate.baseline_name is None]
    best = min(bred, key=lambda trial: (trial.nll, trial.number))
    assert max(trial.generation for trial in bred) == best.generation + 1


def test_an_unexpected_failure_is_recorded(database: Database, tmp_path: Path) -> None:
    def broken(settings: ScorerSettings, workers: int) -> LocalPool:
        raise OSError("no space left on device")

    job = run_to_end(database, tmp_path, SPEC, broken)
    assert job.state is JobState.failed
    assert job.error_code == "INTERNAL_ERROR"
    assert "no space left" in (job.error_message or "")


def test_killed_is_not_an_exception() -> None:
    assert not issubclass(Killed, Exception)
