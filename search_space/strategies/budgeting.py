"""What a budget leaves a strategy that scores every candidate on every document."""

from __future__ import annotations

from collections.abc import Sequence

from search_space.candidates.candidate import ScoredCandidate
from search_space.candidates.step import Budget


def most_candidates(own: int, budget: Budget) -> int:
    """Candidates over all generations, baselines not counted: `own`, the strategy's own limit, within the budget."""
    return own if budget.max_candidates is None else min(own, budget.max_candidates)


def most_document_passes(candidates: int, documents: int, budget: Budget) -> int:
    """Document passes that `candidates`, baselines among them, cost on `documents` each, within the budget."""
    most = candidates * documents
    return most if budget.max_document_passes is None else min(most, budget.max_document_passes)


def candidates_left(most: int, documents: int, earlier: Sequence[ScoredCandidate], budget: Budget) -> int:
    """How many more candidates may be scored on `documents` each, at least 0.

    `most` are the candidates over all generations, baselines not counted; `earlier` is what was scored so far.
    """
    left = most - sum(scored.candidate.baseline_name is None for scored in earlier)
    if budget.max_document_passes is not None:
        left = min(left, budget.max_document_passes // documents - len(earlier))
    return max(left, 0)


def patience_is_spent(generation: int, earlier: Sequence[ScoredCandidate], budget: Budget) -> bool:
    """Whether the generations before `generation` have gone on for too long without a better candidate.

    Baselines and failed candidates count for nothing; among equals the first one is the best.
    """
    bred = [scored for scored in earlier if scored.candidate.baseline_name is None and not scored.failed]
    if budget.patience is None or not bred:
        return False
    best = min(bred, key=lambda scored: (scored.nll, scored.trial))
    return generation - 1 - best.generation >= budget.patience
