"""What a breeding strategy is, and what it gets to know about the job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from ropewalk.rope.config import RopeConfig, scale
from ropewalk.rope.scaling import is_attention_factor
from search_space.candidates.candidate import ScoredCandidate
from search_space.candidates.cost import PassCost
from search_space.candidates.start import Start
from search_space.candidates.step import Budget, Step
from search_space.errors import InvalidStrategy


class Strategy(Protocol):
    """Says generation by generation what to score. Holds no state between calls, so any machine can continue."""

    @property
    def name(self) -> str:
        """The name under which :func:`search_space.strategies.registry.make_strategy` knows it."""

    @property
    def needs_gradients(self) -> bool:
        """Whether it asks for scores with their derivatives, which not every scorer has."""

    @property
    def max_candidates(self) -> int:
        """The most candidates that it will propose over all generations, baselines not counted."""

    @property
    def max_documents(self) -> int:
        """How many search documents there must be: a step's indices are below it."""

    @property
    def max_document_passes(self) -> int:
        """The most passes over search documents that all its steps together will ask for."""

    @property
    def max_tokens(self) -> int:
        """The most tokens of those passes, by the cost of its context."""

    def propose(self, generation: int, history: Sequence[ScoredCandidate]) -> Step:
        """What to score in `generation`; a step without passes ends the search.

        Pure: the same settings, seed, generation and history give the same step, whatever the order of `history`.
        `history` holds every candidate of the generations before with the scores that their steps asked for; later
        ones are ignored. Keeps to the budget of its context.
        """


@runtime_checkable
class TwoKinds(Protocol):
    """A strategy that races on skipped documents first and takes what is left to full ones."""

    takes_two_kinds: ClassVar[bool]

    def agreement(self, history: Sequence[ScoredCandidate]) -> float | None:
        """Rank correlation of the two kinds; None before it was measured."""

    def trusts_skipped(self, history: Sequence[ScoredCandidate]) -> bool:
        """Whether they were seen to rank alike."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StrategyContext:
    """What every strategy gets to know about the job.

    `attention_factor` None means that the attention factor is searched too, as a gene. `documents` is how many search
    documents a candidate is scored on, at most where the strategy races; after them, by index, there may be
    `skipped_documents` position-skipped ones, which cost less and rank alike or not. `skipped` is what passes cost
    where not all documents are full ones.

    Raises:
        InvalidTargetLength: `target_length` is shorter than the original length.
        InvalidStrategy: a negative seed, no documents, or an attention factor that is not finite and positive.
    """

    rope: RopeConfig
    target_length: int
    seed: int
    attention_factor: float | None
    documents: int = 24
    skipped_documents: int = 0
    budget: Budget = field(default_factory=Budget)
    skipped: PassCost | None = None
    #: shapes of another search, for a strategy whose class says `takes_starts = True`
    starts: tuple[Start, ...] = ()

    def __post_init__(self) -> None:
        scale(self.rope, self.target_length)
        if self.seed < 0:
            raise InvalidStrategy(f"seed must be at least 0, but got seed={self.seed}")
        if self.documents < 1:
            raise InvalidStrategy(f"documents must be at least 1, but got documents={self.documents}")
        factor = self.attention_factor
        if factor is not None and not is_attention_factor(factor):
            raise InvalidStrategy(f"attention_factor must be finite and positive, but got attention_factor={factor!r}")

    @property
    def cost(self) -> PassCost:
        """What passes over search documents cost."""
        return self.skipped or PassCost(each=self.target_length)
