"""The paired test that sends candidates home."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.candidate import Candidate, DocumentNats, ScoredCandidate
from search_space.strategies.racing import is_rejected, is_worse, paired_nll


def scored(trial: int, nats: dict[int, float]) -> ScoredCandidate:
    return ScoredCandidate(
        trial=trial,
        generation=0,
        candidate=Candidate(scaling=Scaling(RescaleFactors.identity(4))),
        nll=1.0,
        scores=tuple(DocumentNats(index=i, nats=value, tokens=2) for i, value in nats.items()),
    )


def test_consistently_worse_is_worse_from_five_documents_on() -> None:
    leader = np.full(4, 0.1)
    assert not is_worse(leader + np.array([0.1, 0.2, 0.3, 0.4]), leader, alpha=0.05)  # p = 1 / 16
    leader = np.full(5, 0.1)
    assert is_worse(leader + np.array([0.1, 0.2, 0.3, 0.4, 0.5]), leader, alpha=0.05)  # p = 1 / 32


def test_one_unlucky_document_sends_nobody_home() -> None:
    leader = np.full(10, 0.1)
    other = leader - 0.01
    other[3] = 5.0
    assert other.mean() > leader.mean()
    assert not is_worse(other, leader, alpha=0.05)


def test_worse_on_most_documents_but_better_in_the_mean_stays() -> None:
    leader = np.full(12, 0.1)
    leader[3] = 5.0
    assert not is_worse(np.full(12, 0.2), leader, alpha=0.05)


@given(st.lists(st.floats(0.0, 10.0), min_size=0, max_size=30))
def test_nobody_is_worse_than_themselves(values: list[float]) -> None:
    nll = np.array(values)
    assert not is_worse(nll, nll, alpha=0.5)


@pytest.mark.parametrize("documents", [5, 7, 9])  # scipy goes through all 2^documents signs
@pytest.mark.parametrize("handicap", [0.01, 0.7, 3.0])
def test_a_constant_handicap_is_found_and_only_in_one_direction(documents: int, handicap: float) -> None:
    leader = np.linspace(0.0, 1.0, documents)
    assert is_worse(leader + handicap, leader, alpha=0.05)
    assert not is_worse(leader, leader + handicap, alpha=0.05)


def test_only_common_documents_are_compared() -> None:
    a, b = scored(0, {5: 2.0, 1: 4.0, 9: 100.0}), scored(1, {1: 1.0, 2: 50.0, 5: 3.0})
    left, right = paired_nll(a.scores, b.scores)
    assert left.tolist() == [1.0, 2.0]
    assert right.tolist() == [1.5, 0.5]
    assert not is_rejected(scored(0, {0: 1.0}), scored(1, {1: 0.0}), alpha=0.99)


@pytest.mark.parametrize("documents", [6, 10])
def test_rejection_needs_the_common_documents(documents: int) -> None:
    worse = scored(0, {index: 1.0 + index for index in range(documents)})
    better = scored(1, {index: 0.5 * index for index in range(documents)})
    assert is_rejected(worse, better, alpha=0.05)
    assert not is_rejected(better, worse, alpha=0.05)
