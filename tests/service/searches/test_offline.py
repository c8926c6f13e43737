"""A search without a database decides as the service does: same trials, same scores, same winner."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ropewalk.errors import RopewalkError
from ropewalk.searching import find_factors
from ropewalk.wire.jobs import ProgressResource
from ropewalk.wire.kinds import JobState
from search_space.candidates.candidate import Candidate, ScoredCandidate
from search_space.candidates.cost import GRADIENT_COST
from search_space.candidates.step import Step
from service.door import Door
from service.searches.offline import OfflineSearch, run_offline
from service.searches.prepare import PreparedSearch, prepare_search
from service.specs.search import SearchSpec
from storage.postgres.database import Database
from storage.records import Job, TrialState
from tests.helpers.moody_scorer import MoodyScorer
from tests.helpers.searches import RACING, SPEC, run_to_end
from workers.analytic_backend.scorer import AnalyticScorer
from workers.errors import ScorerUnavailable

SPECS = pytest.mark.parametrize("spec", [SPEC, RACING], ids=["evolution", "auto"])


def prepared_of(spec: dict[str, Any]) -> PreparedSearch:
    return prepare_search(SearchSpec.model_validate(spec))


def by_document(found: OfflineSearch, prepared: PreparedSearch) -> dict[tuple[int, str], float]:
    names = [document.id for document in prepared.documents("search")]
    return {(one.trial, names[score.index]): score.nats for one in found.search.history for score in one.scores}


def state_of(one: ScoredCandidate) -> TrialState:
    return TrialState.pruned if one.pruned else TrialState.complete


def mean_of(one: ScoredCandidate, documents: int) -> float:
    first = one.scores[:documents]
    return sum(score.nats for score in first) / sum(score.tokens for score in first)


def assert_same(found: OfflineSearch, prepared: PreparedSearch, database: Database, job: Job) -> None:
    assert job.state is JobState.succeeded, job.error_message
    door = Door(database)
    trials = door.trials(job.id)
    assert [(t.number, t.generation, t.candidate, t.state) for t in trials] == [
        (one.trial, one.generation, one.candidate, state_of(one)) for one in found.search.history
    ]
    complete = {t.number: t.nll for t in trials if t.state is TrialState.complete}
    # The study's value is summed by numpy, what strategies rank by is not: the last bit may differ.
    expected = {one.trial: one.nll for one in found.search.history if not one.pruned}
    assert complete == pytest.approx(expected, rel=1e-14)
    stored = {(row.trial, row.score.document_id): row.score.nats for row in door.scores(job.id, split="search")}
    assert stored == by_document(found, prepared)
    assert len(stored) == found.search.search_passes
    assert len(door.scores(job.id, split="validation")) == found.search.validation_passes
    told = door.factor_file(job.id)
    assert replace(found.result.factor_file, search=told.search) == told


@SPECS
def test_the_same_search_as_the_service(database: Database, tmp_path: Path, spec: dict[str, Any]) -> None:
    job = run_to_end(database, tmp_path, spec)
    prepared = prepared_of(spec)
    found = run_offline(prepared, AnalyticScorer(prepared.scorer_settings()))
    assert_same(found, prepared, database, job)
    if spec is RACING:
        assert any(one.pruned for one in found.search.history), "or nothing was raced"


def test_a_program_finds_what_the_service_finds(database: Database, tmp_path: Path) -> None:
    told = Door(database).factor_file(run_to_end(database, tmp_path, SPEC).id)
    found = find_factors(**SPEC)
    assert replace(found.file, search=told.search) == told
    assert found.file.search is not None
    assert replace(found.file.search, id=told.search.id if told.search else "") == told.search


@SPECS
def test_a_program_hears_how_far_its_search_is(spec: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[ProgressResource] = []
    found = find_factors(**spec, progress=True, on_progress=heard.append)
    for stage in ("searching", "validating"):
        passes = [one.document_passes for one in heard if one.stage == stage]
        fractions = [one.fraction or 0.0 for one in heard if one.stage == stage]
        assert passes == sorted(passes)
        assert passes[-1] > 0
        assert fractions == sorted(fractions)
    last, search, validation = heard[-1], found.file.search, found.file.validation
    assert search is not None
    assert validation is not None
    assert validation.tokens is not None
    assert (last.fraction, last.note) == (1.0, "the winner is known")
    assert last.document_passes == last.total_document_passes
    assert last.tokens == (search.tokens or 0) + validation.tokens
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].split()[1:3] == ["pocket", "searching"]
    assert lines[-1].split()[2] == "validating"
    assert "100 %" in lines[-1]


@pytest.mark.parametrize(
    ("changes", "code", "rule"),
    [
        ({"target_length": 256}, "INVALID_SPEC", "target_length must be greater than the model's original length"),
        ({"model": "/no/such/model"}, "MODEL_NOT_FOUND", "/no/such/model"),
        ({"strategy": {"name": "guess"}}, "INVALID_STRATEGY", "strategy must be one of .* but got 'guess'"),
        ({"objective": {"documents": 0}}, "INVALID_SPEC", "/objective/documents: .*, but got 0"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_line(changes: dict[str, Any], code: str, rule: str) -> None:
    with pytest.raises(RopewalkError, match=rule) as refused:
        find_factors(**{**SPEC, **changes})
    assert refused.value.code == code
    assert "\n" not in str(refused.value)


@SPECS
def test_the_trace_says_what_would_have_been_returned_then(spec: dict[str, Any]) -> None:
    prepared = prepared_of(spec)
    found = run_offline(prepared, MoodyScorer(prepared.scorer_settings())).search
    trace = found.trace
    assert [point.generation for point in trace] == list(range(len(trace)))
    passes = [point.document_passes for point in trace]
    assert passes == sorted(passes)
    assert passes[-1] == found.search_passes
    first = trace[0]
    assert first.leader is not None
    documents = len(prepared.strategy.propose(0, ()).documents)
    means = {one.trial: mean_of(one, documents) for one in found.history if one.generation == 0}
    assert first.leader.trial == min(means, key=means.__getitem__)
    assert found.leader_at(passes[0] - 1) is None
    assert found.leader_at(passes[0]) == first
    assert found.leader_at(passes[1] - 1) == first
    assert found.leader_at(found.search_passes) == trace[-1]
    assert found.leader_at(found.search_passes + 1) is None, "the search was over by then"


class Descent:
    """A strategy of one step, with gradients; remembers the history that it was last shown."""

    name = "descent"
    needs_gradients = True
    max_candidates = 2
    max_documents = 2
    max_document_passes = 2 * GRADIENT_COST + 2
    max_tokens = 512 * max_document_passes

    def __init__(self, first: Sequence[Candidate]) -> None:
        self._first = tuple(first)
        self.seen: Sequence[ScoredCandidate] = ()

    def propose(self, generation: int, history: Sequence[ScoredCandidate]) -> Step:
        self.seen = history
        if generation == 0:
            return Step(candidates=self._first, documents=(0, 1), gradients=True)
        return Step()


def test_gradients_come_from_a_scorer_that_differentiates_and_cost_more() -> None:
    prepared = prepared_of(SPEC)
    baseline = prepared.strategy.propose(0, ()).candidates[0]
    strategy = Descent([baseline])
    descent = replace(prepared, strategy=strategy)
    found = run_offline(descent, AnalyticScorer(prepared.scorer_settings()))
    gradients = [score.gradient for score in strategy.seen[0].scores]
    assert [len(gradient or ()) for gradient in gradients] == [len(baseline.scaling.factors) + 1] * 2
    assert found.search.search_passes == 2 * GRADIENT_COST
    assert found.search.search_tokens == 2 * GRADIENT_COST * prepared.spec.target_length
    with pytest.raises(ScorerUnavailable, match="differentiates"):
        run_offline(descent, MoodyScorer(prepared.scorer_settings()))
