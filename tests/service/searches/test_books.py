"""What the search loop asks of a book, of both of them: the one in memory and the one in the database."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ropewalk.rope.scaling import Scaling
from service.artifacts.opening import open_store
from service.errors import RunFailed
from service.runtime.job import Runtime
from service.runtime.lease import LeaseKeeper
from service.searches.books import Book, InMemoryBook
from service.searches.loop import FinishedSearch, SearchLoop, TracePoint, Watcher
from service.searches.prepare import PreparedSearch, prepare_search
from service.searches.stored_book import StoredBook
from service.specs.search import SearchSpec
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.scores.cache import ScoreCache
from storage.scores.store import ScoreStore
from storage.study.record import StudyRecord
from tests.helpers.moody_scorer import MoodyScorer
from tests.helpers.paths import ROOT
from tests.helpers.pools import Killed, LocalPool

SPEC: dict[str, Any] = {
    "model": "pocket",
    "target_length": 512,
    "objective": {"documents": 4, "validation_documents": 12},
    "scorer": {"backend": "analytic", "attention_factor": "search"},
    "seed": 3,
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "evolution": {"name": "evolution", "population": 4, "iterations": 2, "parents": 3, "mutations": 1, "crossovers": 1},
    "auto": {"name": "auto", "startup": 5, "batch": 2, "generations": 1, "first_documents": 2, "leaders": 2},
}
#: One that races and extends trials over several steps, and one that does neither.
EVERY_KIND = pytest.mark.parametrize(
    "prepared", [pytest.param("auto", marks=pytest.mark.slow), "evolution"], indirect=True
)
# What a machine with torch and numpy need not have, and the service does.
MISSING = ("pydantic", "sqlalchemy", "psycopg", "optuna", "ray", "fastapi", "matplotlib")


Opened = Callable[..., Book]
"""(refused=(), die_after=None) -> the search's one book, with a scorer of these moods; anew, it is the same book."""


@contextmanager
def in_memory(prepared: PreparedSearch) -> Iterator[Opened]:
    scorer = MoodyScorer(prepared.scorer_settings())
    book = InMemoryBook(scorer, prepared.documents)

    def opened(refused: Collection[Scaling] = (), die_after: int | None = None) -> Book:
        scorer.refused, scorer.die_after = refused, die_after
        return book

    yield opened


@contextmanager
def stored(prepared: PreparedSearch, database: Database, home: Path) -> Iterator[Opened]:
    jobs = JobStore(database)
    jobs.create("search", prepared.spec.canonical_json())
    claimed = jobs.claim("a", 600, ["search"])
    assert claimed is not None
    job, lease = claimed
    with LeaseKeeper(jobs, job, lease, lease_seconds=600) as keeper:
        runtime = Runtime(
            job=job,
            keeper=keeper,
            database=database,
            jobs=jobs,
            scores=ScoreStore(database),
            score_cache=ScoreCache(database),
            home=home,
            store=open_store(None, home),
            open_pool=lambda settings, workers: LocalPool(settings),
        )

        def opened(refused: Collection[Scaling] = (), die_after: int | None = None) -> Book:
            study = StudyRecord(database, job.id, lease)
            study.create_if_missing(model=prepared.spec.model, target_length=prepared.spec.target_length)
            settings = prepared.scorer_settings()
            pool = LocalPool(settings, refuse=lambda task: task.scaling in refused, die_after=die_after)
            return StoredBook(runtime, prepared, pool, study)

        yield opened


@functools.cache
def prepared_of(strategy: str) -> PreparedSearch:
    return prepare_search(SearchSpec.model_validate({**SPEC, "strategy": STRATEGIES[strategy]}))


@pytest.fixture(params=["evolution"])
def prepared(request: pytest.FixtureRequest) -> PreparedSearch:
    """A search that costs little, unless a test asks for more."""
    return prepared_of(request.param)


@pytest.fixture(params=["in memory", pytest.param("stored", marks=[pytest.mark.postgres, pytest.mark.slow])])
def opened(request: pytest.FixtureRequest, prepared: PreparedSearch, tmp_path: Path) -> Iterator[Opened]:
    """An empty book of the search."""
    if request.param == "in memory":
        book = in_memory(prepared)
    else:
        book = stored(prepared, request.getfixturevalue("database"), tmp_path)
    with book as found:
        yield found


def run(prepared: PreparedSearch, book: Book, **options: Any) -> FinishedSearch:
    loop = SearchLoop(prepared.strategy, book, seed=prepared.spec.seed, **options)
    loop.search()
    return loop.validate()


@functools.cache
def undisturbed(strategy: str, refused: tuple[Scaling, ...] = ()) -> FinishedSearch:
    prepared = prepared_of(strategy)
    with in_memory(prepared) as opened:
        return run(prepared, opened(refused=refused))


@EVERY_KIND
def test_the_same_search_in_every_book(prepared: PreparedSearch, opened: Opened) -> None:
    book = opened()
    found = run(prepared, book)
    assert found == undisturbed(prepared.strategy.name)
    steps = book.recorded_steps()
    assert sum(len(step.candidates) for step in steps) == len(found.history)
    assert steps[-1].is_last
    assert not book.failed_trials()
    assert {one.trial for one in found.history if one.pruned} == {trial for step in steps for trial in step.prune}
    for one in found.history:
        by_index = book.scores("search").by_index(one.trial)
        assert {score.index: (score.nats, score.tokens) for score in one.scores} == {
            index: (score.nats, score.tokens) for index, score in by_index.items()
        }
    winner = found.outcome.winner
    assert found.validation[winner] == book.scores("validation").in_order(winner)


def test_a_candidate_that_cannot_be_scored_fails_alone(prepared: PreparedSearch, opened: Opened) -> None:
    healthy = undisturbed(prepared.strategy.name)
    refused = (healthy.history[0].candidate.scaling, healthy.history[9].candidate.scaling)
    book = opened(refused=refused)
    heard: list[tuple[int, str]] = []

    class Listening(Watcher):
        def trial_failed(self, trial: int, reason: str) -> None:
            heard.append((trial, reason))

    found = run(prepared, book, watcher=Listening())
    assert found == undisturbed(prepared.strategy.name, refused)
    assert {0, 9} <= set(book.failed_trials()) == {one.trial for one in found.history if one.failed}
    assert sorted(heard) == [(trial, "refused by the test") for trial in sorted(book.failed_trials())]
    assert not {one.trial for one in found.finalists} & set(book.failed_trials())


def test_more_failures_than_allowed_end_the_search_and_a_second_one(prepared: PreparedSearch, opened: Opened) -> None:
    refused = [one.candidate.scaling for one in undisturbed(prepared.strategy.name).history[:3]]
    with pytest.raises(RunFailed, match=r"max_failed_trials=2 .* 3 did; the last reason: refused") as ended:
        run(prepared, opened(refused=refused), max_failed_trials=2)
    assert ended.value.code == "FAILURE_BUDGET_SPENT"
    with pytest.raises(RunFailed, match=r"max_failed_trials=2 .* 3 did"):
        run(prepared, opened(), max_failed_trials=2)


def test_without_a_baseline_there_is_no_winner(prepared: PreparedSearch, opened: Opened) -> None:
    baselines = [one.scaling for one in prepared.strategy.propose(0, ()).candidates if one.baseline_name is not None]
    with pytest.raises(RunFailed, match="no analytic baseline"):
        run(prepared, opened(refused=baselines))


@EVERY_KIND
@pytest.mark.parametrize("documents", [21, -5])
def test_a_search_that_was_stopped_goes_on_in_its_book(
    prepared: PreparedSearch, opened: Opened, documents: int
) -> None:
    """In the middle of the search, and among the last documents of the validation."""
    expected = undisturbed(prepared.strategy.name)
    whole = expected.search_passes + expected.validation_passes
    with pytest.raises(Killed):
        run(prepared, opened(die_after=documents % whole))
    found = run(prepared, opened())
    # A step that is replayed finds scores of later ones already paid for.
    assert replace(found, trace=()) == replace(expected, trace=())


def test_a_search_without_time_ends_after_its_first_step(prepared: PreparedSearch, opened: Opened) -> None:
    loop = SearchLoop(prepared.strategy, opened(), seed=prepared.spec.seed, finalists=1)
    loop.search(go_on=lambda: False)
    found = loop.validate()
    assert {one.generation for one in found.history} == {0}
    assert sum(one.candidate.baseline_name is None for one in found.finalists) <= 1
    assert found.candidate(found.outcome.winner) in prepared.strategy.propose(0, ()).candidates


def test_what_is_scored_is_not_scored_again(prepared: PreparedSearch, opened: Opened) -> None:
    found = run(prepared, opened())
    assert replace(run(prepared, opened(die_after=0)), trace=()) == replace(found, trace=())


def test_the_watcher_hears_of_every_step_and_score(prepared: PreparedSearch, opened: Opened) -> None:
    points: list[TracePoint] = []
    scores: list[TracePoint] = []
    improvements: list[int] = []

    class Listening(Watcher):
        def step_ended(self, point: TracePoint, *, trials: int, pruned: int, improved: bool) -> None:
            points.append(point)
            if improved and point.leader is not None:
                improvements.append(point.leader.trial)

        def document_scored(self, point: TracePoint) -> None:
            scores.append(point)

    found = run(prepared, opened(), watcher=Listening())
    assert tuple(points) == found.trace
    assert [point.document_passes for point in scores] == list(range(1, found.search_passes + 1))
    leaders = [point.leader.trial for point in points if point.leader is not None]
    assert improvements == [trial for place, trial in enumerate(leaders) if not place or leaders[place - 1] != trial]


def test_the_loop_and_its_book_in_memory_need_nothing_that_the_service_needs() -> None:
    program = (
        f"import sys; sys.modules |= dict.fromkeys({MISSING})\n"
        "from service.searches.books import InMemoryBook\n"
        "from service.searches.loop import SearchLoop\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
