"""The analytic candidates that every strategy starts with, so that no search ends below a formula."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from search_space.candidates.baselines import baselines, own_attention_factor
from search_space.candidates.candidate import BASELINE_ORIGIN, Candidate
from search_space.strategies.base import StrategyContext
from search_space.strategies.budgeting import most_document_passes, most_tokens


def seed_baselines(context: StrategyContext) -> tuple[Candidate, ...]:
    """Each baseline at the fixed attention factor; where it is searched, at 1 and at the method's own.

    The second form of a baseline is called "baseline:<name>+attention", so that names stay unique.
    """
    plain = baselines(context.rope, context.target_length)
    if context.attention_factor is not None:
        return tuple(_with_attention(seed, context.attention_factor) for seed in plain)
    scaled = []
    for seed in plain:
        own = own_attention_factor(seed.origin.removeprefix(BASELINE_ORIGIN), context.rope, context.target_length)
        if own != seed.scaling.attention_factor:
            scaled.append(replace(_with_attention(seed, own), origin=f"{seed.origin}+attention"))
    return (*plain, *scaled)


def _with_attention(seed: Candidate, attention_factor: float) -> Candidate:
    return replace(seed, scaling=replace(seed.scaling, attention_factor=attention_factor))


class ScoredInFull(ABC):
    """What a strategy costs that starts with the baselines and scores every candidate on every document."""

    _context: StrategyContext

    @property
    @abstractmethod
    def max_candidates(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`."""

    @property
    def max_documents(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`."""
        return self._context.documents

    @property
    def max_document_passes(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`."""
        return most_document_passes(self.max_candidates + len(seed_baselines(self._context)), self._context)

    @property
    def max_tokens(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`."""
        return most_tokens(self.max_candidates + len(seed_baselines(self._context)), self._context)
