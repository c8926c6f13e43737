"""The Gaussian process over shapes."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.candidate import Candidate, DocumentNats, ScoredCandidate
from search_space.strategies.surrogate import Surrogate, merit, observe

HARDNESS = (1.0, 1.0, 1.0, 8.0, 8.0, 8.0)  # of each document


def scored(trial: int, quality: float, documents: int, *, origin: str = "initial") -> ScoredCandidate:
    """NLL = quality times the document's hardness."""
    return ScoredCandidate(
        trial=trial,
        generation=0,
        candidate=Candidate(scaling=Scaling(RescaleFactors.identity(4)), origin=origin),
        nll=quality,
        scores=tuple(DocumentNats(index=i, nats=7 * quality * HARDNESS[i], tokens=7) for i in range(documents)),
    )


def of_nats(trial: int, nats: Sequence[float], *, origin: str = "initial") -> ScoredCandidate:
    """NLL by document."""
    return ScoredCandidate(
        trial=trial,
        generation=0,
        candidate=Candidate(scaling=Scaling(RescaleFactors.identity(4)), origin=origin),
        nll=float(np.mean(nats)),
        scores=tuple(DocumentNats(index=i, nats=float(one), tokens=1) for i, one in enumerate(nats)),
    )


def bowl(point: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return 0.05 + float(np.sum((point - 0.3) ** 2))


def test_merit_is_the_log_of_nll() -> None:
    assert merit(scored(0, 0.5, 3)) == pytest.approx(math.log(0.501))
    assert merit(scored(0, 0.5, 6), frozenset({3, 4})) == pytest.approx(math.log(4.001))


def test_harder_documents_do_not_make_a_candidate_look_worse() -> None:
    points = [np.array([x]) for x in (0.1, 0.4, 0.6, 0.9)]
    few = [scored(0, 0.5, 3), scored(1, 0.5, 3)]
    more = [scored(2, 0.5, 6), scored(3, 0.5, 6, origin="baseline:yarn")]
    found = observe(points, [*few, *more])
    assert found.merits == pytest.approx(found.merits[0])
    assert found.documents.tolist() == [3, 3, 6, 6]


def test_what_lucky_shapes_lose_on_more_documents_is_not_the_documents_fault() -> None:
    # The shapes fail where the formula does not: they got more documents as they were lucky on the first three.
    formula = of_nats(0, [0.1] * 6, origin="baseline:yarn")
    lucky = [of_nats(trial, [0.05] * 3 + [2.0] * 3) for trial in (1, 2, 3)]
    other = of_nats(4, [0.1] * 3)
    found = observe([np.array([x]) for x in (0.1, 0.3, 0.4, 0.5, 0.9)], [formula, *lucky, other])
    assert found.merits[0] == pytest.approx(found.merits[4])
    assert (found.merits[1:4] > found.merits[0] + 1.0).all()


def test_noise_is_not_taken_for_a_landscape() -> None:
    # one document in eight fails, whatever the point: four documents show it or not
    rng = np.random.default_rng(0)
    points = list(rng.random((80, 3)))
    fails = rng.random((80, 4)) < 0.125
    surrogate = Surrogate(
        observe(points, [of_nats(i, np.where(row, 1.0, 0.02).tolist()) for i, row in enumerate(fails)])
    )
    found = surrogate.merits(np.array(points))
    raw = [merit(of_nats(i, np.where(row, 1.0, 0.02).tolist())) for i, row in enumerate(fails)]
    assert np.std(found) < 0.5 * np.std(raw)


def test_it_learns_a_bowl_and_proposes_near_its_bottom() -> None:
    rng = np.random.default_rng(0)
    points = list(rng.random((24, 2)))
    surrogate = Surrogate(observe(points, [scored(i, bowl(point), 3) for i, point in enumerate(points)]))
    good, bad = surrogate.merits(np.array([[0.3, 0.3], [0.9, 0.9]]))
    assert good < bad
    proposed, gain = surrogate.propose(4, np.random.default_rng(1))
    assert proposed.shape == (4, 2)
    assert gain >= 0.0
    assert min(bowl(point) for point in proposed) < np.median([bowl(point) for point in points])
    assert len({tuple(point) for point in proposed}) == 4
    again, _ = surrogate.propose(4, np.random.default_rng(1))
    assert (again == proposed).all()


def test_equal_scores_are_no_trouble() -> None:
    points = list(np.random.default_rng(0).random((5, 2)))
    surrogate = Surrogate(observe(points, [scored(i, 0.1, 3) for i in range(5)]))
    proposed, _ = surrogate.propose(2, np.random.default_rng(0))
    assert np.isfinite(proposed).all()


def test_how_many_threads_there_are_changes_no_bit_of_a_proposal() -> None:
    rng = np.random.default_rng(0)
    points = list(rng.random((90, 5)))
    observed = observe(points, [scored(i, bowl(point[:2]), 3) for i, point in enumerate(points)])
    proposed = []
    for threads in (1, 2, 4):
        with threadpool_limits(limits=threads, user_api="blas"):
            proposed.append(Surrogate(observed).propose(3, np.random.default_rng(1)))
    assert all(gain == proposed[0][1] and (found == proposed[0][0]).all() for found, gain in proposed)
