"""Strategies by name: one row each, and the rows of installed packages (entry points `ropewalk.strategies`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ropewalk.registry import Registry
from search_space.errors import InvalidStrategy
from search_space.strategies.arguments import Settings
from search_space.strategies.base import Strategy, StrategyContext


class StrategyClass(Protocol):
    """A class of strategies: made from its settings and a context."""

    @property
    def settings(self) -> type[Settings]:
        """What a spec may give beside the name."""

    def __call__(self, settings: Any, context: StrategyContext) -> Strategy: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class StrategyRow:
    """`load` imports the strategy, and the libraries that only searches with it need, when it is used."""

    name: str
    summary: str
    load: Callable[[], StrategyClass]


def _auto() -> StrategyClass:
    from search_space.strategies.auto.strategy import AutoStrategy

    return AutoStrategy


def _evolution() -> StrategyClass:
    from search_space.strategies.evolution.strategy import EvolutionStrategy

    return EvolutionStrategy


def _gradient() -> StrategyClass:
    from search_space.strategies.gradient.strategy import GradientStrategy

    return GradientStrategy


def _optuna() -> StrategyClass:
    from search_space.strategies.optuna.strategy import OptunaStrategy

    return OptunaStrategy


STRATEGIES = Registry(
    "strategy",
    StrategyRow(name="auto", summary="shapes of few numbers by a Gaussian process, raced on documents", load=_auto),
    StrategyRow(name="evolution", summary="LongRoPE2's evolutionary search over single factors", load=_evolution),
    StrategyRow(name="optuna", summary="shapes by one of Optuna's samplers", load=_optuna),
    StrategyRow(name="gradient", summary="descent along derivatives with respect to every factor", load=_gradient),
    refusal=InvalidStrategy,
    kind=StrategyRow,
    group="ropewalk.strategies",
)


def make_strategy(name: str, arguments: Mapping[str, object], context: StrategyContext) -> Strategy:
    """Build the strategy called `name`.

    Raises:
        InvalidStrategy: unknown name, unknown or ill-typed argument, settings that leave nothing to search, or a budget
            smaller than the first generation.
    """
    make = STRATEGIES.find(name).load()
    strategy = make(make.settings.from_arguments(arguments), context)
    _check_first_step(strategy, context)
    return strategy


def _check_first_step(strategy: Strategy, context: StrategyContext) -> None:
    """A budget that the first generation overruns would end in a search of baselines only, or of half a population."""
    first, budget = strategy.propose(0, ()), context.budget
    if budget.max_candidates is not None and len(first.bred) > budget.max_candidates:
        raise InvalidStrategy(
            f"max_trials must be at least the {len(first.bred)} candidates of {strategy.name}'s first generation, "
            f"but got max_trials={budget.max_candidates}",
            pointer="/budget/max_trials",
        )
    if budget.max_document_passes is not None and first.document_passes > budget.max_document_passes:
        raise InvalidStrategy(
            f"max_document_passes must pay for {strategy.name}'s first generation, {len(first.candidates)} candidates "
            f"on {len(first.documents)} documents each ({first.document_passes}), "
            f"but got max_document_passes={budget.max_document_passes}",
            pointer="/budget/max_document_passes",
        )
    if budget.max_tokens is not None and (tokens := first.cost(context.cost)) > budget.max_tokens:
        raise InvalidStrategy(
            f"max_tokens must pay for {strategy.name}'s first generation, {len(first.candidates)} candidates on "
            f"{context.cost.of(first.documents)} tokens each ({tokens}), but got max_tokens={budget.max_tokens}",
            pointer="/budget/max_tokens",
        )
