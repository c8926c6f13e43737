"""A whole search through the controller on a real database; only the scorer is analytic."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ropewalk.wire.kinds import JobState
from ropewalk.wire.reports import CostReport, SearchReport
from service.door import Door
from service.specs.search import SearchSpec
from storage.postgres.database import Database
from storage.records import Job, TrialRecord, TrialState
from tests.helpers.pools import Killed, LocalPool
from tests.helpers.postgres import create_database
from tests.helpers.searches import RACING, SPEC, controller, run_to_end
from tests.helpers.waiting import wait_until
from workers.base import ScorerSettings, ScoringOutcome, ScoringTask

TWO_KINDS: dict[str, Any] = {**RACING, "objective": {**RACING["objective"], "skipped": {"tokens": 100, "documents": 8}}}
SPECS = pytest.mark.parametrize("spec", [SPEC, RACING, TWO_KINDS], ids=["evolution", "auto", "auto on two kinds"])


def essence(trials: tuple[TrialRecord, ...]) -> list[tuple[object, ...]]:
    """What must not depend on who scored when: everything but the search's id."""
    return [(t.number, t.generation, t.slot, t.candidate, t.state, t.nll) for t in trials]


def factors_of(job: Job) -> dict[str, Any]:
    assert job.result_json is not None
    file: dict[str, Any] = json.loads(job.result_json)["factors"]
    return {key: value for key, value in file.items() if key != "search"}


class Slow(LocalPool):
    """Leaves time to interfere in."""

    def score(self, task: ScoringTask) -> ScoringOutcome:
        time.sleep(0.02)
        return super().score(task)


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """What a search that nobody disturbs ends with."""

    essence: list[tuple[object, ...]]
    factors: dict[str, Any]
    passes: int


EndOf = Callable[[dict[str, Any]], Undisturbed]


@pytest.fixture(scope="module")
def undisturbed_end(
    postgres_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EndOf]:
    """By spec, once each; in a database of their own, so that no score of theirs is found in a test's cache."""
    url = create_database(postgres_url, "undisturbed_searches", template=template_database)
    ends: dict[str, Undisturbed] = {}
    with closing(Database(url)) as database:

        def end_of(spec: dict[str, Any]) -> Undisturbed:
            name = json.dumps(spec, sort_keys=True)
            if name not in ends:
                job, door = run_to_end(database, tmp_path_factory.mktemp("undisturbed"), spec), Door(database)
                passes = sum(len(door.scores(job.id, split=split)) for split in ("search", "validation"))
                ends[name] = Undisturbed(essence=essence(door.trials(job.id)), factors=factors_of(job), passes=passes)
            return ends[name]

        yield end_of


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


@pytest.mark.parametrize("tokens", [512, 100], ids=["full", "skipped"])
def test_cost_is_told_in_passes_and_in_their_tokens(database: Database, tmp_path: Path, tokens: int) -> None:
    skipped = {} if tokens == 512 else {"skipped": {"tokens": tokens}}
    job = run_to_end(database, tmp_path, {**SPEC, "objective": {**SPEC["objective"], **skipped}})
    assert job.state is JobState.succeeded, job.error_message
    door = Door(database)
    searched, validated = (len(door.scores(job.id, split=split)) for split in ("search", "validation"))
    report = SearchReport.from_json(job.result_json or "")
    assert report.searched == CostReport(document_passes=searched, tokens=searched * tokens)
    assert report.validated == CostReport(document_passes=validated, tokens=validated * 512)
    file = door.factor_file(job.id)
    assert file.search is not None
    assert file.validation is not None
    assert (file.search.tokens, file.validation.tokens) == (searched * tokens, validated * 512)
    progress = job.progress  # as it was written last
    assert progress.seconds_left is None or progress.seconds_left >= 0.0
    assert searched * tokens <= progress.tokens <= searched * tokens + validated * 512 <= (progress.total_tokens or 0)
    told = [json.loads(event.data_json) for event in door.events("search", job.id)]
    steps = [data for data in told if "pruned" in data]
    assert [data["tokens"] for data in steps] == [data["document_passes"] * tokens for data in steps]
    assert steps[-1]["tokens"] == searched * tokens == door.pictures(job.id).best_so_far.tokens


def test_skipped_documents_first_and_full_ones_for_the_best(database: Database, tmp_path: Path) -> None:
    job = run_to_end(database, tmp_path, TWO_KINDS)
    assert job.state is JobState.succeeded, job.error_message
    door = Door(database)
    told = [
        json.loads(event.data_json) for event in door.events("search", job.id) if event.type == "documents.agreement"
    ]
    assert [set(data) for data in told] == [{"rank_correlation", "trusted"}]
    scores = door.scores(job.id, split="search")
    skipped = {stored.score.document_id for stored in scores if "skip" in stored.score.document_id}
    assert 0 < len(skipped) < len({stored.score.document_id for stored in scores})
    for trial in door.trials(job.id):
        own = [stored.score for stored in scores if stored.trial == trial.number]
        full = [one for one in own if one.document_id not in skipped] or own
        if trial.nll is not None and own:
            assert trial.nll == pytest.approx(sum(one.nats for one in full) / sum(one.tokens for one in full))
    report = SearchReport.from_json(job.result_json or "")
    assert report.searched is not None
    assert report.searched.tokens < report.searched.document_passes * 512


@SPECS
def test_the_order_of_scores_does_not_matter(
    database: Database, tmp_path: Path, spec: dict[str, Any], undisturbed_end: EndOf
) -> None:
    def shuffled(settings: ScorerSettings, workers: int) -> LocalPool:
        return LocalPool(settings, order=random.Random(5).shuffle)

    other = run_to_end(database, tmp_path, spec, shuffled)
    assert essence(Door(database).trials(other.id)) == undisturbed_end(spec).essence
    assert factors_of(other) == undisturbed_end(spec).factors


@SPECS
@pytest.mark.parametrize("die_after", [2, 75])
def test_a_killed_controller_is_replaced_and_nothing_changes(
    database: Database,
    tmp_path: Path,
    die_after: int,
    spec: dict[str, Any],
    undisturbed_end: EndOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed = undisturbed_end(spec)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)  # the thread that "dies"
    door = Door(database)
    job = door.submissions.submit_search(SearchSpec.model_validate(spec)).job
    with controller(database, tmp_path, lambda settings, _: LocalPool(settings, die_after=die_after)):
        wait_until(lambda: door.job("search", job.id).lease_epoch >= 1)
        wait_until(lambda: not any(thread.name == f"job-{job.id}" for thread in threading.enumerate()))
    assert not door.job("search", job.id).state.is_final
    LocalPool.scored = 0
    with controller(database, tmp_path):
        wait_until(lambda: door.job("search", job.id).state.is_final)
    assert essence(door.trials(job.id)) == undisturbed.essence
    assert factors_of(door.job("search", job.id)) == undisturbed.factors
    # No accepted score is paid for twice; one that formulas share may be found in the cache by then.
    assert undisturbed.passes - die_after - 10 <= LocalPool.scored <= undisturbed.passes - die_after


def test_pause_and_resume_give_the_same_factors(database: Database, tmp_path: Path, undisturbed_end: EndOf) -> None:
    door = Door(database)
    job = door.submissions.submit_search(SearchSpec.model_validate(SPEC)).job

    with controller(database, tmp_path, lambda settings, _: Slow(settings)):
        wait_until(lambda: door.job("search", job.id).progress.document_passes > 12)
        door.request("search", job.id, "pause")
        wait_until(lambda: door.job("search", job.id).state is JobState.paused)
        assert door.job("search", job.id).lease_owner is None
        door.request("search", job.id, "resume")
        wait_until(lambda: door.job("search", job.id).state.is_final)
    assert essence(door.trials(job.id)) == undisturbed_end(SPEC).essence
    assert factors_of(door.job("search", job.id)) == undisturbed_end(SPEC).factors


def test_cancel_keeps_the_trials(database: Database, tmp_path: Path) -> None:
    door = Door(database)
    job = door.submissions.submit_search(SearchSpec.model_validate(SPEC)).job

    with controller(database, tmp_path, lambda settings, _: Slow(settings)):
        wait_until(lambda: door.job("search", job.id).progress.document_passes > 12)
        door.request("search", job.id, "cancel")
        wait_until(lambda: door.job("search", job.id).state is JobState.cancelled)
    assert len(door.trials(job.id)) > 0
    assert len(door.scores(job.id, split="search")) > 12


def test_a_race_leaves_trials_that_can_be_compared(database: Database, tmp_path: Path) -> None:
    job = run_to_end(database, tmp_path, RACING)
    assert job.state is JobState.succeeded, job.error_message
    door = Door(database)
    scored: dict[int, int] = {}
    for stored in door.scores(job.id, split="search"):
        scored[stored.trial] = scored.get(stored.trial, 0) + 1
    trials = door.trials(job.id)
    assert {trial.state for trial in trials} == {TrialState.complete, TrialState.pruned}
    for trial in trials:
        assert trial.state is not TrialState.complete or scored[trial.number] == RACING["objective"]["documents"]
    rounds = [json.loads(e.data_json) for e in door.events("search", job.id) if e.type == "validation.round"]
    assert [one["documents"] for one in rounds] == [8, 12]
    assert len(rounds[1]["trials"]) < len(rounds[0]["trials"])


def test_a_candidate_that_cannot_be_scored_fails_alone(database: Database, tmp_path: Path) -> None:
    def refuse_trial_9(settings: ScorerSettings, workers: int) -> LocalPool:
        return LocalPool(settings, refuse=lambda task: task.key.startswith("9:"))

    job = run_to_end(database, tmp_path, SPEC, refuse_trial_9)
    assert job.state is JobState.succeeded, job.error_message
    trials = Door(database).trials(job.id)
    assert [trial.number for trial in trials if trial.nll is None] == [9]
    assert trials[9].reason == "refused by the test"


@pytest.mark.parametrize(
    ("budget", "bred"),
    [({"max_trials": 7}, 7), ({"max_trials": 10}, 10), ({"max_document_passes": 47}, 7), ({"max_tokens": 47 * 512}, 7)],
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
        raise ZeroDivisionError("of all things")

    job = run_to_end(database, tmp_path, SPEC, broken)
    assert job.state is JobState.failed
    assert job.error_code == "INTERNAL_ERROR"
    assert "of all things" in (job.error_message or "")


def test_killed_is_not_an_exception() -> None:
    assert not issubclass(Killed, Exception)


def test_a_search_that_is_submitted_again_costs_no_forward_pass(database: Database, tmp_path: Path) -> None:
    first = run_to_end(database, tmp_path, SPEC)
    passes = LocalPool.scored
    second = run_to_end(database, tmp_path, SPEC)
    assert LocalPool.scored == passes
    door = Door(database)
    assert essence(door.trials(first.id)) == essence(door.trials(second.id))
    assert factors_of(first) == factors_of(second)
    stored = [door.scores(second.id, split=split) for split in ("search", "validation")]
    assert {score.worker for scores in stored for score in scores} == {"cache"}


def test_what_is_missing_in_the_cache_is_scored(database: Database, tmp_path: Path) -> None:
    first = run_to_end(database, tmp_path, SPEC)
    with database.transaction() as connection:
        connection.execute(sa.text("DELETE FROM ropewalk.score_cache WHERE get_byte(key, 0) < 128"))
    passes = LocalPool.scored
    second = run_to_end(database, tmp_path, SPEC)
    assert 0 < LocalPool.scored - passes < passes
    assert factors_of(first) == factors_of(second)
