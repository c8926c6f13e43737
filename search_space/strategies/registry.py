"""Strategies by name: one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from search_space.errors import InvalidStrategy
from search_space.strategies.base import Strategy, StrategyContext

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
    from search_space.strategies.auto import AutoSettings, AutoStrategy

    return AutoStrategy(AutoSettings.from_arguments(arguments), context)


def _evolution(arguments: Mapping[str, object], context: StrategyContext) -> Strategy:
    from search_space.strategies.evolution.strategy import EvolutionSettings, EvolutionStrategy

    return EvolutionStrategy(EvolutionSettings.from_arguments(arguments), context)


def _gradient(arguments: Mapping[str, object], context: StrategyContext) -> Strategy:
    from search_space.strategies.gradient.settings import GradientSettings
    from search_space.strategies.gradient.strategy import GradientStrategy

    return GradientStrategy(GradientSettings.from_arguments(arguments), context)


def _optuna(arguments: Mapping[str, object], context: StrategyContext) -> Strategy:
    from search_space.strategies.optuna.settings import OptunaSettings
    from search_space.strategies.optuna.strategy import OptunaStrategy

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
