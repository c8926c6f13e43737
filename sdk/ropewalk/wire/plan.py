"""What a plan says. Everything here is frozen."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Bound = Literal["exactly", "at most"]
WorkName = Literal["search", "validation", "training", "evaluation"]

DOCUMENTED = ConfigDict(use_attribute_docstrings=True)


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class PlanRow:
    """One kind of work."""

    work: WorkName
    bound: Bound
    """Whether passes and tokens are what the run will take, or the most that it can take."""
    passes: Count
    """Forward passes over a document, where one with gradients counts as three; rows of a training."""
    tokens: Count
    """Of those passes or rows."""
    pflop: Amount
    """10^15 operations, a multiplication and an addition being two."""
    expected_passes: Count
    """Of a race, about a third of the bound, as measured on the pocket model; the bound where nothing is raced."""
    expected_tokens: Count
    expected_pflop: Amount
    memory_gib: Amount
    """On each GPU, estimated: weights, caches and activations, what libraries take not counted."""
    fits: bool
    """Whether that is at most nine tenths of the GPU's memory."""
    gpus: Annotated[int, Field(ge=1)]
    """How many the work keeps busy side by side."""
    hours: Amount
    """Of the bound, on all of them."""
    expected_hours: Amount
    price: Amount | None
    """Of the bound; null where no price per GPU-hour is given."""
    expected_price: Amount | None


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class Plan:
    """What a job will cost."""

    model: str
    parameters: Count
    original_length: Count
    """L, tokens."""
    target_length: Count
    """L', tokens."""
    counted: bool
    """Whether operations are counted in the model's own code; else estimated from its weights."""
    device: str
    """What hours are counted on, and at which share of its peak."""
    rows: tuple[PlanRow, ...]
    notes: tuple[str, ...]
    """What does not fit and what would, and what is not in the rows."""
