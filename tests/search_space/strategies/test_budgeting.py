from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ropewalk.rope.config import RopeConfig
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.baselines import baseline
from search_space.candidates.candidate import Candidate, DocumentNats, ScoredCandidate
from search_space.candidates.step import Budget, Step
from search_space.strategies.base import StrategyContext
from search_space.strategies.budgeting import (
    RemainingBudget,
    candidates_left,
    most_candidates,
    most_document_passes,
    most_tokens,
    patience_is_spent,
)

ROPE = RopeConfig(rope_theta=1000.0, rotary_dim=4, original_max_position_embeddings=256)
BASELINE = baseline("pi", ROPE, 512)
BRED = Candidate(scaling=Scaling(RescaleFactors((1.0, 2.0))), origin="initial")


def _context(documents: int, **budget: int) -> StrategyContext:
    return StrategyContext(
        rope=ROPE, target_length=512, seed=0, attention_factor=1.0, documents=documents, budget=Budget(**budget)
    )


def _scored(trial: int, generation: int, nll: float, candidate: Candidate = BRED) -> ScoredCandidate:
    return ScoredCandidate(trial=trial, generation=generation, candidate=candidate, nll=nll)


def test_a_strategys_own_limits_hold_without_a_budget_and_the_lower_limit_with_one() -> None:
    assert most_candidates(10, Budget()) == 10
    assert [most_candidates(10, Budget(max_candidates=limit)) for limit in (9, 11)] == [9, 10]
    assert most_document_passes(10, _context(3)) == 30
    assert [most_document_passes(10, _context(3, max_document_passes=limit)) for limit in (29, 31)] == [29, 30]
    assert [most_document_passes(10, _context(3, max_tokens=limit)) for limit in (29 * 512, 31 * 512)] == [29, 30]
    assert most_tokens(10, _context(3)) == 30 * 512
    assert [most_tokens(10, _context(3, max_tokens=limit)) for limit in (29, 10**9)] == [29, 30 * 512]
    assert most_tokens(10, _context(3, max_document_passes=4)) == 4 * 512


def test_candidates_left_counts_baselines_as_passes_and_not_as_candidates() -> None:
    earlier = [_scored(0, 0, 1.0, BASELINE), _scored(1, 0, 1.0), _scored(2, 0, math.inf)]
    assert candidates_left(5, earlier, _context(4)) == 3
    # Three candidates of four passes are paid for: 19 passes in all pay for one more, 20 for two.
    limits = (12, 19, 20, 100)
    assert [candidates_left(5, earlier, _context(4, max_document_passes=m)) for m in limits] == [0, 1, 2, 3]
    assert [candidates_left(5, earlier, _context(4, max_tokens=512 * m)) for m in limits] == [0, 1, 2, 3]
    assert candidates_left(1, earlier, _context(4, max_document_passes=4)) == 0


def test_a_purse_pays_in_passes_and_in_tokens() -> None:
    gradient = DocumentNats(index=3, nats=1.0, tokens=7, gradient=(0.0, 0.0, 0.0))
    plain = DocumentNats(index=0, nats=1.0, tokens=7)
    earlier = [replace(_scored(0, 0, 1.0), scores=(plain, gradient))]
    remaining = RemainingBudget.of(_context(4, max_document_passes=10, max_tokens=9 * 512 - 1), earlier)
    assert (remaining.passes, remaining.tokens) == (6, 5 * 512 - 1)
    assert [remaining.times(range(count)) for count in (1, 2, 5)] == [4, 2, 0]
    left = remaining.after(Step(candidates=(BRED,), documents=(0, 1, 2)))
    assert (left.passes, left.tokens, left.times((0, 1))) == (3, 2 * 512 - 1, 0)
    assert left.after(Step(candidates=(BRED,), documents=(0,), gradients=True)).times((0,)) == 0


@pytest.mark.parametrize(("generation", "spent"), [(1, False), (2, False), (3, True)])
def test_patience_counts_generations_since_the_best(generation: int, spent: bool) -> None:
    # The better baseline and the failed candidate are no news, nor is an equal score.
    history = [_scored(0, 0, 1.0), _scored(1, 1, 0.1, BASELINE), _scored(2, 1, 1.0), _scored(3, 2, math.inf)]
    earlier = [scored for scored in history if scored.generation < generation]
    assert patience_is_spent(generation, earlier, Budget(patience=2)) == spent
    assert not patience_is_spent(generation, earlier, Budget())


def test_patience_waits_for_a_first_score() -> None:
    assert not patience_is_spent(5, [_scored(0, 0, 1.0, BASELINE), _scored(1, 0, math.inf)], Budget(patience=1))
