"""The four pictures of a search as data: what is drawn in the dashboard, as PNG, and answered over REST.

NLL is in nats per answer token, depths are in [0, 1], a pass is one forward pass over one search document.
Everything here is frozen and validated on construction (pydantic's ValidationError).
"""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

Role = Literal["leader", "baseline", "survivor", "raced_out"]
"""The leader (the winner once it is chosen), an analytic baseline, one that is still in, or pruned and failed ones."""

DOCUMENTED = ConfigDict(use_attribute_docstrings=True)


def _same_length(*columns: tuple[object, ...]) -> None:
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"columns must be of one length, but have {[len(column) for column in columns]} values")


def _ascending(name: str, values: tuple[int, ...], *, strictly: bool = False) -> None:
    if any(right < left or (strictly and right == left) for left, right in pairwise(values)):
        raise ValueError(f"{name} must be ascending, but got {values}")


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class FactorCurve:
    """The rescale factors of one candidate."""

    name: str
    """A baseline's name, or `trial <number>`."""
    factors: Annotated[tuple[Annotated[float, Field(ge=1, allow_inf_nan=False)], ...], Field(min_length=1)]
    """`long_factor`, one per pair, fast to slow."""


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class FactorsPicture:
    """Rescale factor over pair index."""

    leader: FactorCurve | None
    """The winner, or the best trial so far; null while none is complete."""
    critical_pair: Count | None
    """The leader's."""
    baselines: tuple[FactorCurve, ...]
    scale: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None
    """s = L'/L; null, like the two pairs below, until the search has begun."""
    theoretical_critical_pair: Count | None
    ten_period_critical_pair: Count | None

    def __post_init__(self) -> None:
        curves = (*self.baselines, self.leader) if self.leader else self.baselines
        _same_length(*(curve.factors for curve in curves))


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class TrialPoints:
    """Finished trials as columns."""

    trials: tuple[Count, ...]
    passes: tuple[Count, ...]
    """Passes that the search had paid for when the trial's last document was scored; ascending."""
    tokens: tuple[Count, ...]
    """Of those passes; ascending."""
    nll: tuple[Number, ...]

    def __post_init__(self) -> None:
        _same_length(self.trials, self.passes, self.tokens, self.nll)
        _ascending("passes", self.passes)
        _ascending("tokens", self.tokens)


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class BaselineLevel:
    """The search NLL of an analytic baseline."""

    name: str
    nll: Number


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class BestSoFarPicture:
    """Search NLL over the tokens that were read for it."""

    points: TrialPoints
    """Bred trials: every one that was the best so far, and an even sample of the others."""
    best: TrialPoints
    """The bred trials that were the best so far when they were finished."""
    baselines: tuple[BaselineLevel, ...]
    """Best first."""
    finished: Count
    """Bred trials that were scored; `points` may hold fewer."""
    document_passes: Count
    """Paid for by all trials so far; a pass with gradients counts as three."""
    tokens: Count
    """Of those passes."""

    def __post_init__(self) -> None:
        if any(right >= left for left, right in pairwise(self.best.nll)):
            raise ValueError(f"every best trial must beat the one before, but got {self.best.nll}")


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class RaceLine:
    """One candidate, document after document in the order of their indices."""

    trial: Count
    name: str
    """A baseline's name, or `trial <number>`."""
    role: Role
    documents: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    """How many documents are scored; long lines are thinned out, the last value stays."""
    nll: tuple[Number, ...]
    """Mean over those documents."""

    def __post_init__(self) -> None:
        _same_length(self.documents, self.nll)
        _ascending("documents", self.documents, strictly=True)


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class RacePicture:
    """Running mean NLL over the number of search documents scored."""

    lines: tuple[RaceLine, ...]
    candidates: Count
    """With at least one score; `lines` may hold fewer: the baselines, the best, an even sample of the others."""


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class NeedleCell:
    """Validation documents whose first asked needle was planned at a depth in [low, high)."""

    low: Share
    high: Share
    documents: Count
    nll: Number | None
    """Null without documents."""
    exact_match: Share | None

    def __post_init__(self) -> None:
        if (self.nll is None) != (self.documents == 0) or (self.exact_match is None) != (self.documents == 0):
            raise ValueError(f"a cell must have scores when and only when it has documents, but got {self!r}")


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class NeedleColumn:
    """One contender over depth."""

    name: str
    role: Literal["winner", "best baseline", "best bred"]
    nll: Number
    """Mean over all its validation documents."""
    cells: tuple[NeedleCell, ...]
    """From the beginning of a document to its end."""


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class NeedlesPicture:
    """Held-out documents by needle depth: the winner against the best baseline, or against the best bred candidate
    where the winner is that baseline."""

    columns: Annotated[tuple[NeedleColumn, ...], Field(min_length=1)]

    def __post_init__(self) -> None:
        _same_length(*(column.cells for column in self.columns))


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class SearchPictures:
    """Everything that is drawn of one search."""

    search_id: str
    model: str
    original_length: int | None
    """L, tokens; null until the search has begun."""
    target_length: int
    """L', tokens."""
    decided: bool
    """Whether the leader is the winner, chosen on held-out documents."""
    factors: FactorsPicture
    best_so_far: BestSoFarPicture
    race: RacePicture
    needles: NeedlesPicture | None
    """Null until the winner is chosen."""
