"""The door to breeding strategies: what one is, and how to get one by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from search_space.candidate import ScoredCandidate
from search_space.errors import InvalidStrategy
from search_space.rope import RopeConfig, scale
from search_space.step import Budget, Step


class Strategy(Protocol):
    """Says generation by generation what to score. Holds no state between calls, so any machine can continue."""

    @property
    def name(self) -> str:
        """The name under which :func:`make_strategy` knows it."""

    @property
    def max_candidates(self) -> int:
        """The most candidates that it will propose over all generations, baselines not counted."""

    @property
    def max_documents(self) -> int:
        """How many search documents there must be: a step's indices are below it."""

    @property
    def max_document_passes(self) -> int:
        """The most passes over search documents that all its steps together will ask for."""

    def propose(self, generation: int, history: Sequence[ScoredCandidate]) -> Step:
        """What to score in `generation`; a step without passes ends the search.

        Pure: the same settings, seed, generation and history give the same step, whatever the order of `history`.
        `history` holds every candidate of the generations before with the scores that their steps asked for; later
        ones are ignored. Keeps to the budget of its context.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class StrategyContext:
    """What every strategy is told about the job.

    `attention_factor` None means that the attention factor is searched too, as a gene. `documents` is how many search
    documents a candidate is scored on, at most where the strategy races.

    Raises:
        InvalidTargetLength: `target_length` is shorter than the original length.
        InvalidStrategy: a negative seed, no documents, or an attention factor that is not finite and positive.
    """

    rope: RopeConfig
    target_length: int
    seed: int
    attention_factor: float | None
    documents: int = 24
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        scale(self.rope, self.target_length)
        if self.seed < 0:
            raise InvalidStrategy(f"seed must be at least 0, but got seed={self.seed}")
        if self.documents < 1:
            raise InvalidStrategy(f"documents must be at least 1, but got documents={self.documents}")
        factor = self.attention_factor
        if factor is not None and not (math.isfinite(factor) and factor > 0):
            raise InvalidStrategy(f"attention_factor must be finite and positive, but got attention_factor={factor!r}")


Maker = Callable[[Mapping[str, object], StrategyContext], Strategy]


def make_strategy(name: str, arguments: Mapping[str, object], context: StrategyContext) -> Strategy:
    """Build the strategy called `name`.

    Raises:
        InvalidStrategy: unknown name, unknown or ill-typed argument, settings that leave nothing to search, or a budget
            smaller than the first generation.
    """
    makers = _makers()
    if name not in makers:
        raise InvalidStrategy(f"strategy must be one of {', '.join(makers)}, but got {name!r}")
    strategy = makers[name](arguments, context)
    _check_first_step(strategy, context)
    return strategy


def _makers() -> dict[str, Maker]:
    return {"auto": _auto, "evolution": _evolution, "gradient": _gradient, "optuna": _optuna}


# Each strategy implements this module's protocol, and brings libraries that only searches with it need.


def _auto(arguments: Mapping[str, object], context: StrategyContext) -> Strategy:
    from search_space.auto import AutoSettings, AutoStrategy

    return AutoStrategy(AutoSettings.from_arguments(arguments), context)


def _evolution(arguments: Mapping[str, object], context: StrategyContext) -> Strategy:
    from search_space.evolution import EvolutionSettings, EvolutionStrategy

    return EvolutionStrategy(EvolutionSettings.from_arguments(arguments), context)


def _gradient(arguments: Mapping[str, object], context: StrategyContext) -> Strategy:
    from search_space.gradient import GradientStrategy
    from search_space.gradient_settings import GradientSettings

    return GradientStrategy(GradientSettings.from_arguments(arguments), context)


def _optuna(arguments: Mapping[str, object], context: StrategyContext) -> Strategy:
    from search_space.optuna_settings import OptunaSettings
    from search_space.optuna_strategy import OptunaStrategy

    return OptunaStrategy(OptunaSettings.from_arguments(arguments), context)


def _check_first_step(strategy: Strategy, context: StrategyContext) -> None:
    """A budget that the first generation overruns would end in a search of baselines only, or of half a population."""
    first, budget = strategy.propose(0, ()), context.budget
    if budget.max_candidates is not None and len(first.bred) > budget.max_candidates:
        raise InvalidStrategy(
            f"max_trials must be at least the {len(first.bred)} candidates of {strategy.name}'s first generation, "
            f"but got max_trials={budget.max_candidates}"
        )
    if budget.max_document_passes is not None and first.document_passes > budget.max_document_passes:
        raise InvalidStrategy(
            f"max_document_passes must pay for {strategy.name}'s first generation, {len(first.candidates)} candidates "
            f"on {len(first.documents)} documents each ({first.document_passes}), "
            f"but got max_document_passes={budget.max_document_passes}"
        )
