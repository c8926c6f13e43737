"""What a budget leaves a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from search_space.candidates.candidate import ScoredCandidate
from search_space.candidates.cost import PASSES, PassCost
from search_space.candidates.step import Budget, Step
from search_space.strategies.base import StrategyContext

_NO_LIMIT = 2**62


@dataclass(frozen=True, kw_only=True, slots=True)
class RemainingBudget:
    """What is left of a budget, in passes and in tokens."""

    passes: int
    tokens: int
    cost: PassCost

    @classmethod
    def of(cls, context: StrategyContext, earlier: Sequence[ScoredCandidate] = ()) -> RemainingBudget:
        """After the scores of `earlier` candidates."""
        budget, cost = context.budget, context.cost
        return cls(
            passes=_limit(budget.max_document_passes) - sum(one.cost(PASSES) for one in earlier),
            tokens=_limit(budget.max_tokens) - sum(one.cost(cost) for one in earlier),
            cost=cost,
        )

    def times(self, documents: Sequence[int]) -> int:
        """How often it pays for a pass over each of `documents`, at least 0."""
        return max(min(self.passes // len(documents), self.tokens // self.cost.of(documents)), 0)

    def after(self, step: Step) -> RemainingBudget:
        """What `step` leaves."""
        return replace(self, passes=self.passes - step.cost(PASSES), tokens=self.tokens - step.cost(self.cost))


def _limit(limit: int | None) -> int:
    return _NO_LIMIT if limit is None else limit


def most_candidates(own: int, budget: Budget) -> int:
    """Candidates over all generations, baselines not counted: `own`, the strategy's own limit, within the budget."""
    return own if budget.max_candidates is None else min(own, budget.max_candidates)


def passes_within(passes: int, documents: int, context: StrategyContext) -> int:
    """`passes` over any of the first `documents`, or as many as the budget pays for at most."""
    cheapest, _ = context.cost.extremes(documents)
    remaining = RemainingBudget.of(context)
    return min(passes, remaining.passes, remaining.tokens // cheapest)


def tokens_within(tokens: int, documents: int, context: StrategyContext) -> int:
    """`tokens` of passes over any of the first `documents`, or as many as the budget pays for at most."""
    _, dearest = context.cost.extremes(documents)
    remaining = RemainingBudget.of(context)
    return min(tokens, remaining.tokens, remaining.passes * dearest)


def most_document_passes(candidates: int, context: StrategyContext) -> int:
    """Document passes that `candidates`, baselines among them, cost on every document, within the budget."""
    return passes_within(candidates * context.documents, context.documents, context)


def most_tokens(candidates: int, context: StrategyContext) -> int:
    """The tokens of those passes."""
    each = context.cost.of(range(context.documents))
    return tokens_within(candidates * each, context.documents, context)


def candidates_left(most: int, earlier: Sequence[ScoredCandidate], context: StrategyContext) -> int:
    """How many more candidates may be scored on every document, at least 0.

    `most` are the candidates over all generations, baselines not counted; `earlier` is what was scored so far, on every
    document too: a candidate that failed has its share spent.
    """
    left = most - sum(scored.candidate.baseline_name is None for scored in earlier)
    paid_for = RemainingBudget.of(context).times(range(context.documents)) - len(earlier)
    return max(min(left, paid_for), 0)


def patience_is_spent(generation: int, earlier: Sequence[ScoredCandidate], budget: Budget) -> bool:
    """Whether the generations before `generation` have gone on for too long without a better candidate.

    Baselines and failed candidates count for nothing; among equals the first one is the best.
    """
    bred = [scored for scored in earlier if scored.candidate.baseline_name is None and not scored.failed]
    if budget.patience is None or not bred:
        return False
    best = min(bred, key=lambda scored: (scored.nll, scored.trial))
    return generation - 1 - best.generation >= budget.patience
