"""What a spec may give the default strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from ropewalk.reading.annotations import Range
from search_space.errors import InvalidStrategy
from search_space.strategies.arguments import AT_ONCE, LARGEST, Settings

FEWEST_SHAPES = 16
"""Of a first generation that a budget cuts short: fewer say little about five axes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoSettings(Settings):
    """The knobs.

    Raises:
        InvalidStrategy: a value out of its range.
    """

    owner: ClassVar[str] = "auto"

    startup: Annotated[int, AT_ONCE] = 32
    """Shapes of the first generation, beside the baselines; of more than 16, as many as the budget pays for."""
    batch: Annotated[int, AT_ONCE] = 8
    """Shapes of each later generation."""
    generations: Annotated[int, Range(0, LARGEST)] = 12
    """Generations after the first that may add shapes."""
    first_documents: Annotated[int, Range(1, LARGEST)] = 4
    """Documents of a new candidate."""
    first_skipped: Annotated[int, Range(1, LARGEST)] = 16
    """The same where they are skipped ones."""
    leaders: Annotated[int, AT_ONCE] = 4
    """Shapes whose documents are doubled in each generation."""
    anchors: Annotated[int, AT_ONCE] = 3
    """Formulas that get the leaders' documents too."""
    promoted: Annotated[int, AT_ONCE] = 8
    """Shapes that go on to full documents when no more are added on skipped ones."""
    promoted_documents: Annotated[int, Range(1, LARGEST)] = 8
    """Full documents that the best of them get, at most."""
    min_agreement: Annotated[float, Range(-1, 1)] = 0.5
    """Rank correlation of the baselines' NLL on the two kinds of documents, below which the search goes back to full
    ones."""
    width: Annotated[int, AT_ONCE] = 1
    """Passes that run at once. Generations are made to take that many workers a whole number of rounds, in as many
    shapes altogether; the result depends on it, and not on the workers that there are."""
    alpha: Annotated[float, Range(above=0, below=1)] = 0.05
    """Level of the test that drops a candidate."""
    min_gain: Annotated[float, Range(0)] = 0.1
    """Expected improvement (of the logarithm of the NLL, roughly) below which no more shapes are added."""
    surrogate: Literal["gp", "none"] = "gp"
    """"gp" proposes shapes by a Gaussian process; "none" draws them evenly."""
    race: bool = True
    """Without it every candidate is scored on all documents at once."""
    fresh_documents: bool = False
    """Whether each generation's shapes start on documents of their own, which the leader is scored on too."""

    def __post_init__(self) -> None:
        self.check()
        if self.fresh_documents and not self.race:
            raise InvalidStrategy("fresh_documents must come with race, but got race=False")
