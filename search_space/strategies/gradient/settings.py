"""What a search spec may say about the gradient strategy, and what a budget leaves of it."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Annotated, ClassVar

from ropewalk.reading.annotations import Range
from search_space.candidates.cost import PASSES, PassCost
from search_space.errors import InvalidStrategy
from search_space.strategies.arguments import AT_ONCE, LARGEST, NONE_AT_ONCE, Settings
from search_space.strategies.base import StrategyContext


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
    def within(cls, context: StrategyContext, settings: GradientSettings, *, baselines: int) -> Plan:
        """The longest plan that the context's budget pays for to its last average.

        Raises:
            InvalidStrategy: it does not pay for a single gradient.
        """

        def of(steps: int) -> Plan:
            return cls(settings=settings, baselines=baselines, documents=context.documents, steps=steps)

        most = bisect_left(range(1, settings.steps + 1), True, key=lambda steps: not of(steps).fits(context))
        if most:
            return of(most)
        plan, budget = of(1), context.budget
        raise InvalidStrategy(
            "a budget must pay for gradient's first generation, one step and one average: "
            f"{plan.candidates} candidates, {plan.cost(PASSES)} document passes and {plan.cost(context.cost)} tokens, "
            f"but got max_trials={budget.max_candidates}, max_document_passes={budget.max_document_passes}, "
            f"max_tokens={budget.max_tokens}"
        )

    def fits(self, context: StrategyContext) -> bool:
        """Whether the budget pays for all of it."""
        budget = context.budget
        asked = (
            (self.candidates, budget.max_candidates),
            (self.cost(PASSES), budget.max_document_passes),
            (self.cost(context.cost), budget.max_tokens),
        )
        return all(limit is None or needed <= limit for needed, limit in asked)

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

    def cost(self, cost: PassCost) -> int:
        """What all of it costs; the start is scored on all documents to be compared with averages."""
        first, everything = range(self.settings.first_documents), range(self.documents)
        started = (self.baselines + self.settings.startup) * cost.of(first)
        compared = self.averages * cost.of(everything) + cost.of(everything) - cost.of(first)
        return started + cost.of(self._fresh(0, self.steps), gradients=True) + compared

    def fresh(self, number: int) -> tuple[int, ...]:
        """The documents of a gradient, after those that candidates are compared on."""
        return tuple(self._fresh(number, number + 1))

    def _fresh(self, first: int, end: int) -> range:
        """Those of the gradients from `first` on, before `end`."""
        return range(self.documents + first * self.settings.batch, self.documents + end * self.settings.batch)
