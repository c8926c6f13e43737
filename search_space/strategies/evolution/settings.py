"""What a search spec may say about the evolution strategy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from ropewalk.reading.annotations import Range
from search_space.errors import InvalidStrategy
from search_space.strategies.arguments import AT_ONCE, LARGEST, NONE_AT_ONCE, Settings, read_arguments


@dataclass(frozen=True, kw_only=True, slots=True)
class EvolutionSettings(Settings):
    """The knobs; the defaults are the paper's, and its authors' code where the paper is silent.

    Raises:
        InvalidStrategy: a value out of its range.
    """

    owner: ClassVar[str] = "evolution"

    population: Annotated[int, AT_ONCE] = 64
    """Candidates of the first generation."""
    iterations: Annotated[int, Range(0, LARGEST)] = 40
    """Generations after the first."""
    parents: Annotated[int, AT_ONCE] = 32
    """The best so far, which the next generation is bred from; a smaller population has as many at most."""
    mutations: Annotated[int, NONE_AT_ONCE] = 16
    """Mutated candidates of each later generation."""
    crossovers: Annotated[int, NONE_AT_ONCE] = 16
    """Crossed candidates of each later generation."""
    mutation_probability: Annotated[float, Range(above=0, most=1)] = 0.3
    """Of a gene."""
    grid_step: float = 0.01
    """Of the grid that the factors lie on."""
    max_crossover_tries: Annotated[int, Range(1, LARGEST)] = 20
    """Tries for a crossover that keeps the factors in order."""
    lower_multiple: float = 1.0
    """Lower bound of the factors from the critical pair on, in multiples of the extension ratio s."""
    upper_multiple: float = 2.0
    """Their upper bound."""
    lowest_critical_pair: int | None = None
    """null: the ten-period one."""
    highest_critical_pair: int | None = None
    """null: the theoretical one."""

    def __post_init__(self) -> None:
        self.check()
        if self.mutations + self.crossovers < 1:
            raise InvalidStrategy("mutations and crossovers must not both be 0")
        if self.parents > self.population:
            raise InvalidStrategy(
                f"parents must be at most population, but got parents={self.parents}, population={self.population}"
            )
        if self.crossovers and self.parents < 2:
            raise InvalidStrategy(f"crossovers need at least 2 parents, but got parents={self.parents}")
        if not 0.0 < self.lower_multiple <= self.upper_multiple:
            raise InvalidStrategy(
                "lower_multiple must be positive and at most upper_multiple, "
                f"but got lower_multiple={self.lower_multiple!r}, upper_multiple={self.upper_multiple!r}"
            )

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, object]) -> Self:
        """Settings from the names and values of a search spec; a small population without `parents` has few of them.

        Raises:
            InvalidStrategy: unknown name, wrong type, or a value out of its range.
        """
        population = arguments.get("population")
        if "parents" not in arguments and isinstance(population, int):
            arguments = {**arguments, "parents": max(1, min(cls().parents, population))}
        return read_arguments(cls, arguments)
