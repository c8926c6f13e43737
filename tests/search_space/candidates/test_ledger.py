"""Steps in, histories out."""

import math

import pytest

from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.candidate import Candidate, DocumentNats
from search_space.candidates.ledger import Ledger, leader
from search_space.candidates.step import Budget, Extension, Step
from search_space.errors import InvalidStrategy


def candidate(factor: float) -> Candidate:
    return Candidate(scaling=Scaling(RescaleFactors((1.0, factor))))


def nats(trial: int) -> dict[int, DocumentNats]:
    """Every document of every trial is known: a resumed search has scores of steps that it has not replayed yet."""
    return {index: DocumentNats(index=index, nats=trial + index / 10, tokens=1) for index in range(8)}


def test_only_scores_that_steps_asked_for_are_history() -> None:
    ledger = Ledger()
    first = Step(candidates=(candidate(2.0), candidate(3.0)), documents=(0, 1), keep_open=True)
    assert ledger.begin(0, first, [0, 1]) == {0: (0, 1), 1: (0, 1)}
    assert [len(one.scores) for one in ledger.history(nats, ())] == [2, 2]
    second = Step(
        candidates=(candidate(4.0),), documents=(0,), extend=(Extension(trial=1, documents=(2, 3)),), prune=(0,)
    )
    assert ledger.begin(1, second, [2]) == {1: (2, 3), 2: (0,)}
    history = ledger.history(nats, ())
    assert [[score.index for score in one.scores] for one in history] == [[0, 1], [0, 1, 2, 3], [0]]
    assert [one.pruned for one in history] == [True, False, False]
    assert [one.generation for one in history] == [0, 0, 1]
    assert history[1].nll == pytest.approx(1.15)
    assert ledger.open_trials() == (1,)


def test_failed_trials_have_no_scores() -> None:
    ledger = Ledger()
    ledger.begin(0, Step(candidates=(candidate(2.0), candidate(3.0)), documents=(0,)), [0, 1])
    history = ledger.history(nats, {0})
    assert math.isinf(history[0].nll)
    assert history[0].failed
    assert history[0].scores == ()
    assert leader(history) is history[1]


@pytest.mark.parametrize(
    "step", [Step(extend=(Extension(trial=0, documents=(1,)),)), Step(prune=(0,)), Step(prune=(7,))]
)
def test_finished_and_unknown_trials_are_neither_extended_nor_pruned(step: Step) -> None:
    ledger = Ledger()
    ledger.begin(0, Step(candidates=(candidate(2.0),), documents=(0,)), [0])
    with pytest.raises(InvalidStrategy, match="open trials only"):
        ledger.begin(1, step, [])


def test_a_lucky_start_does_not_lead() -> None:
    ledger = Ledger()
    ledger.begin(0, Step(candidates=(candidate(2.0), candidate(3.0)), documents=(0,), keep_open=True), [0, 1])
    ledger.begin(1, Step(extend=(Extension(trial=1, documents=(1, 2)),)), [])
    found = leader(ledger.history(nats, ()))
    assert found is not None
    assert found.trial == 1  # trial 0 has the lower mean, of one document


@pytest.mark.parametrize(
    "fields",
    [
        {"candidates": (candidate(2.0),)},
        {"candidates": (candidate(2.0),), "documents": (1, 1)},
        {"candidates": (candidate(2.0),), "documents": (-1,)},
        {"extend": (Extension(trial=0, documents=(1,)),), "prune": (0,)},
        {"extend": (Extension(trial=0, documents=(1,)), Extension(trial=0, documents=(2,)))},
    ],
)
def test_steps_that_contradict_themselves_are_refused(fields: dict[str, tuple[Candidate, ...]]) -> None:
    with pytest.raises(InvalidStrategy):
        Step(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["max_candidates", "max_document_passes", "max_tokens", "patience"])
def test_a_budget_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(InvalidStrategy, match=f"{name} must be at least 1, but got {name}=0"):
        Budget(**{name: 0})
