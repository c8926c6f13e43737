"""What ended jobs carry as `result`: written by the run, kept as JSON, read by everyone else, clients among them.

Results of earlier versions are read too: a field that came later has a default. Fields of later versions are ignored.
"""

import json
import sys
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ropewalk.wire.factor_value import FactorFileValue

Perplexity = Annotated[float, AfterValidator(lambda value: min(value, sys.float_info.max))]
"""JSON has no infinity: the largest number instead."""

Verdict = Literal["beats_best_baseline", "within_noise_of_best_baseline", "is_best_baseline"]


class Report(BaseModel):
    """A frozen result, or a part of one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def to_json(self) -> str:
        """The text that is stored."""
        return json.dumps(self.model_dump(mode="json"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls.model_validate_json(text)


class Comparison(Report):
    """The best bred candidate against the best analytic baseline on held-out documents; nats per answer token."""

    trial: int
    nll: float
    best_baseline: str
    best_baseline_nll: float
    documents: int
    difference: float = Field(description="mean of nll minus the baseline's, paired by document")
    ci95: tuple[float, float] = Field(description="95 % bootstrap interval of difference")


class FinalistRow(Report):
    """One candidate on the held-out documents that it got to."""

    trial: int
    name: str = Field(description="the baseline's name, or the trial's number")
    origin: str
    critical_pair: int | None
    attention_factor: float
    long_factor: tuple[float, ...]
    search_nll: float
    nll: float
    nll_standard_error: float | None
    perplexity: Perplexity
    exact_match: float
    documents: int


def _is_none(value: object) -> bool:
    """What results of earlier versions do not say is not written into them."""
    return value is None


class CostReport(Report):
    """What was paid for: forward passes (one with gradients counts as three) and the tokens that they read."""

    document_passes: int
    tokens: int


class OverlapReport(Report):
    """How much text the held-out documents have in common, and what that does to the interval."""

    documents: int
    share: float = Field(description="of a document's 8-grams that the one most like it has too, a mean over documents")
    effective_documents: float = Field(
        description="independent documents that they are worth at least: if scores correlated by the shared text"
    )
    widened: float = Field(description="how many times wider the interval is for it; 1: their scores do not show it")


class SearchReport(Report):
    """The result of a search: the winner on documents that no candidate was bred on."""

    verdict: Verdict
    statement: str = Field(description="the verdict as a sentence or two")
    comparison: Comparison | None = Field(None, description="null: no bred candidate could be compared")
    factors: FactorFileValue
    finalists: tuple[FinalistRow, ...] = ()
    searched: CostReport | None = Field(None, exclude_if=_is_none, description="over search documents")
    validated: CostReport | None = Field(None, exclude_if=_is_none, description="over held-out documents")
    overlap: OverlapReport | None = Field(None, exclude_if=_is_none, description="of the held-out documents")


class FinetuneReport(Report):
    """The result of a fine-tuning job. Losses are weighted means in nats per token over the first and the last tenth of
    the steps; those of kinds of rows that were not trained on are null."""

    checkpoint: str = Field(description="directory of the whole model, or of the adapter")
    model: str
    target_length: int
    factors: FactorFileValue
    steps: int
    tokens: int = Field(description="trained on, padding included")
    initial_loss_long: float | None
    final_loss_long: float | None
    initial_loss_middle: float | None = None
    final_loss_middle: float | None = None
    initial_loss_short: float | None = None
    final_loss_short: float | None = None
    initial_loss_skipped: float | None = None
    final_loss_skipped: float | None = None
    seconds: float = Field(description="spent on the steps, not on preparing and writing")
