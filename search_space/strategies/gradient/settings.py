"""What a search spec may say about the gradient strategy, and what a budget leaves of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from search_space.candidates.candidate import GRADIENT_COST
from search_space.candidates.step import Budget
from search_space.errors import InvalidStrategy
from search_space.reading.annotations import Range
from search_space.strategies.arguments import AT_ONCE, LARGEST, NONE_AT_ONCE, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientSettings(Settings):
    """The knobs.

    Raises:
        InvalidStrategy: a value out of its range.
    """

    owner: ClassVar[str] = "gradient"

    steps: Annotated[int, Range(1, LARGEST)] = 60
    """Gradients to follow."""
    batch: Annotated[int, AT_ONCE] = 2
    """Documents of a gradient, which no other gradient is taken on."""
    startup: Annotated[int, NONE_AT_ONCE] = 0
    """Shapes of the first generation beside the baselines: the descent starts from the best of all."""
    first_documents: Annotated[int, Range(1, LARGEST)] = 8
    """Documents that the start is chosen on."""
    # Three times as much went astray on the pocket model at 8 times its length: the fastest pairs that move follow
    # noise.
    learning_rate: Annotated[float, Range(above=0, most=1)] = 0.01
    """How far a step goes in the natural logarithm of a factor, and of the attention factor."""
    # An average of one point would be the next step's candidate once more.
    check_every: Annotated[int, Range(2, LARGEST)] = 20
    """Steps between averages that are scored on all documents."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a search of `steps` gradients asks for, which nothing that it finds can change."""

    settings: GradientSettings
    baselines: int
    documents: int
    steps: int

    @classmethod
    def within(cls, budget: Budget, settings: GradientSettings, *, baselines: int, documents: int) -> Plan:
        """The longest plan that the budget pays for to its last average.

        Raises:
            InvalidStrategy: it does not pay for a single gradient.
        """
        for steps in range(settings.steps, 0, -1):
            plan = cls(settings=settings, baselines=baselines, documents=documents, steps=steps)
            if plan.fits(budget):
                return plan
        raise InvalidStrategy(
            "a budget must pay for gradient's first generation, one step and one average: "
            f"{plan.candidates} candidates and {plan.document_passes} document passes, "
            f"but got max_trials={budget.max_candidates}, max_document_passes={budget.max_document_passes}"
        )

    def fits(self, budget: Budget) -> bool:
        """Whether the budget pays for all of it."""
        candidates, passes = budget.max_candidates, budget.max_document_passes
        return (candidates is None or self.candidates <= candidates) and (
            passes is None or self.document_passes <= passes
        )

    @property
    def turns(self) -> tuple[int | None, ...]:
        """Generation by generation after the first: the number of a gradient, or None where an average is scored."""
        turns: list[int | None] = []
        for number in range(self.steps):
            turns.append(number)
            if (number + 1) % self.settings.check_every == 0 or number + 1 == self.steps:
                turns.append(None)
        return tuple(turns)

    @property
    def averages(self) -> int:
        """How often an average is scored."""
        return math.ceil(self.steps / self.settings.check_every)

    @property
    def candidates(self) -> int:
        """Without baselines. The first gradient is taken at the start, which is no new candidate."""
        return self.settings.startup + self.steps - 1 + self.averages

    @property
    def document_passes(self) -> int:
        """All of them, in forward passes; the start is scored on all documents to be compared with averages."""
        first = (self.baselines + self.settings.startup) * self.settings.first_documents
        compared = self.averages * self.documents + self.documents - self.settings.first_documents
        return first + self.steps * self.settings.batch * GRADIENT_COST + compared

    def fresh(self, number: int) -> tuple[int, ...]:
        """The documents of a gradient, after those that candidates are compared on."""
        start = self.documents + number * self.settings.batch
        return tuple(range(start, start + self.settings.batch))
