"""What a search spec may say about the gradient strategy, and what a budget leaves of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from search_space.candidates.candidate import GRADIENT_COST
from search_space.candidates.step import Budget
from search_space.errors import InvalidStrategy
from search_space.strategies.arguments import CANDIDATES_AT_ONCE, check_names, real, whole


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientSettings:
    """The knobs.

    Raises:
        InvalidStrategy: a value out of its range.
    """

    steps: int = 60
    """Gradients to follow."""
    batch: int = 2
    """Documents of a gradient, which no other gradient is taken on."""
    startup: int = 0
    """Shapes of the first generation beside the baselines: the descent starts from the best of all."""
    first_documents: int = 8
    """Documents that the start is chosen on."""
    learning_rate: float = 0.01
    """How far a step goes in the natural logarithm of a factor, and of the attention factor. Three times as much went
    astray on the pocket model at 8 times its length: the fastest pairs that move follow noise."""
    check_every: int = 20
    """Steps between averages that are scored on all documents."""

    def __post_init__(self) -> None:
        # An average of one point would be the next step's candidate once more.
        least = {"steps": 1, "batch": 1, "startup": 0, "first_documents": 1, "check_every": 2}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InvalidStrategy(f"{name} must be at least {low}, but got {name}={getattr(self, name)}")
        if not 0.0 < self.learning_rate <= 1.0:
            raise InvalidStrategy(f"learning_rate must be in (0, 1], but got learning_rate={self.learning_rate!r}")

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, object]) -> GradientSettings:
        """Settings from the names and values of a search spec.

        Raises:
            InvalidStrategy: unknown name, wrong type, or a value out of its range.
        """
        check_names(arguments, [field.name for field in fields(cls)], whose="gradient")
        default = cls()
        return cls(
            steps=whole(arguments, "steps", default.steps),
            batch=whole(arguments, "batch", default.batch, most=CANDIDATES_AT_ONCE),
            startup=whole(arguments, "startup", default.startup, most=CANDIDATES_AT_ONCE),
            first_documents=whole(arguments, "first_documents", default.first_documents),
            learning_rate=real(arguments, "learning_rate", default.learning_rate),
            check_every=whole(arguments, "check_every", default.check_every),
        )


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
