"""The door to breeding strategies: what one is, and how to get one by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from search_space.candidate import Candidate, ScoredCandidate
from search_space.errors import InvalidStrategy
from search_space.rope import RopeConfig, scale

STRATEGY_NAMES: tuple[str, ...] = ("evolution",)


class Strategy(Protocol):
    """Proposes candidates generation by generation. Holds no state between calls, so any machine can continue."""

    @property
    def name(self) -> str:
        """The name under which :func:`make_strategy` knows it."""

    @property
    def max_candidates(self) -> int:
        """The most candidates that it will propose over all generations, baselines not counted."""

    def propose(self, generation: int, history: Sequence[ScoredCandidate]) -> tuple[Candidate, ...]:
        """The candidates of `generation`.

        Pure: the same settings, seed, generation and history give the same candidates, whatever the order of
        `history` and whatever the machine. `history` holds every scored candidate of the generations before; later
        ones are ignored. An empty tuple: the strategy has ended.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class StrategyContext:
    """What every strategy is told about the job.

    `attention_factor` None means that the attention factor is searched too, as a gene.

    Raises:
        InvalidTargetLength: `target_length` is shorter than the original length.
        InvalidStrategy: a negative seed, or an attention factor that is not finite and positive.
    """

    rope: RopeConfig
    target_length: int
    seed: int
    attention_factor: float | None

    def __post_init__(self) -> None:
        scale(self.rope, self.target_length)
        if self.seed < 0:
            raise InvalidStrategy(f"seed must be at least 0, but got seed={self.seed}")
        factor = self.attention_factor
        if factor is not None and not (math.isfinite(factor) and factor > 0):
            raise InvalidStrategy(f"attention_factor must be finite and positive, but got attention_factor={factor!r}")


def make_strategy(name: str, arguments: Mapping[str, object], context: StrategyContext) -> Strategy:
    """Build the strategy called `name`.

    Raises:
        InvalidStrategy: unknown name, unknown or ill-typed argument, or settings that leave nothing to search.
    """
    from search_space.evolution import EvolutionSettings, EvolutionStrategy  # they implement this module's protocol

    if name != EvolutionStrategy.name:
        raise InvalidStrategy(f"strategy must be one of {', '.join(STRATEGY_NAMES)}, but got {name!r}")
    return EvolutionStrategy(EvolutionSettings.from_arguments(arguments), context)
