"""What a strategy asks for next, and what it may spend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search_space.candidates.candidate import Candidate
from search_space.candidates.cost import PASSES, PassCost
from search_space.errors import InvalidStrategy


@dataclass(frozen=True, kw_only=True, slots=True)
class Extension:
    """More search documents, by index, for a trial of an earlier generation."""

    trial: int
    documents: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_documents(self.documents)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One generation: new candidates, what each of them and of the earlier trials is scored on, and who is out.

    Documents are indices into the search's one sequence of documents, which is the same for every candidate: two
    candidates scored on one index can be compared as a pair. `prune` are trials of earlier generations that are raced
    out before this step is scored. With `keep_open` the new candidates may be extended by later steps; without it they
    are finished as soon as they are scored. With `gradients` every pass of the step also returns the derivatives of its
    nats, and costs as much as ``GRADIENT_COST`` passes. A step that asks for no pass ends the search.
    """

    candidates: tuple[Candidate, ...] = ()
    documents: tuple[int, ...] = ()
    extend: tuple[Extension, ...] = ()
    prune: tuple[int, ...] = ()
    keep_open: bool = False
    gradients: bool = False

    def __post_init__(self) -> None:
        if self.candidates:
            _check_documents(self.documents)
        extended = [extension.trial for extension in self.extend]
        if len(set(extended)) != len(extended) or set(extended) & set(self.prune):
            raise InvalidStrategy(
                f"a step must extend a trial once and not prune it, but got extend={extended}, prune={self.prune}"
            )

    @property
    def document_passes(self) -> int:
        """What the step costs, in forward passes."""
        return self.cost(PASSES)

    def cost(self, cost: PassCost) -> int:
        """What the step costs."""
        asked = [*[self.documents] * len(self.candidates), *(extension.documents for extension in self.extend)]
        return sum(cost.of(documents, gradients=self.gradients) for documents in asked)

    @property
    def is_last(self) -> bool:
        """Whether there is nothing more to score."""
        return self.document_passes == 0

    @property
    def bred(self) -> tuple[Candidate, ...]:
        """The new candidates that are no analytic baselines."""
        return tuple(candidate for candidate in self.candidates if candidate.baseline_name is None)


END = Step()


def _check_documents(documents: Sequence[int]) -> None:
    if not documents or len(set(documents)) != len(documents) or min(documents) < 0:
        raise InvalidStrategy(f"documents must be distinct indices from 0 on, but got documents={tuple(documents)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What a search may spend. None: no limit beyond the strategy's own.

    Raises:
        InvalidStrategy: a limit below 1.
    """

    max_candidates: int | None = None
    """Candidates over all generations, analytic baselines not counted."""
    max_document_passes: int | None = None
    """Forward passes over search documents, those of baselines included."""
    max_tokens: int | None = None
    """Tokens of those passes."""
    patience: int | None = None
    """Generations without a better candidate before stopping."""

    def __post_init__(self) -> None:
        for name in ("max_candidates", "max_document_passes", "max_tokens", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidStrategy(f"{name} must be at least 1, but got {name}={value}")
