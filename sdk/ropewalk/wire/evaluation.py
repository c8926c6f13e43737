"""What a finished evaluation carries as `result`."""

from pydantic import Field

from ropewalk.wire.reports import Perplexity, Report


class EvaluationRow(Report):
    """One contender at one length on needle documents."""

    name: str
    length: int
    nll: float
    nll_standard_error: float | None
    perplexity: Perplexity
    exact_match: float
    documents: int
    by_depth: tuple[tuple[float, float, bool], ...]
    """(depth in [0, 1], nats per answer token, exact) of each document."""


class OverlapRow(Report):
    """How much text the needle documents of one length have in common."""

    length: int
    documents: int
    share: float
    """Of a document's 8-grams that the one most like it has too, a mean over documents."""
    effective_documents: float
    """Independent documents that they are worth at least."""


class RulerRow(Report):
    """One contender at one length: percent by RULER task, and their mean."""

    name: str
    length: int
    scores: dict[str, float]
    average: float


class TextRow(Report):
    """One contender at one length on plain text."""

    name: str
    length: int
    nll: float
    perplexity: Perplexity
    accuracy: float
    windows: int
    tokens: int


class HarnessRow(Report):
    """One model on one metric of one task of lm-evaluation-harness."""

    name: str
    task: str
    metric: str
    value: float
    standard_error: float | None
    higher_is_better: bool
    samples: int


class RetentionRow(Report):
    """What one contender keeps of the unchanged model within the original length; kept is in percent."""

    name: str
    length: int | None
    measure: str
    before: Perplexity
    after: Perplexity
    kept: Perplexity | None


class EvaluationReport(Report):
    """The result of an evaluation."""

    model: str
    original_length: int
    target_length: int
    threshold: float = 0.0
    tokens: int | None = Field(
        None, exclude_if=lambda tokens: tokens is None, description="read for it; prompts are counted as their length"
    )
    rows: tuple[EvaluationRow, ...]
    overlap: tuple[OverlapRow, ...] = Field(
        (), exclude_if=lambda rows: not rows, description="of the needle documents, by length"
    )
    ruler: tuple[RulerRow, ...] = ()
    effective_lengths: dict[str, int | None] = Field(default_factory=dict)
    """By contender: the longest length whose RULER average reaches the threshold."""
    text: tuple[TextRow, ...] = ()
    harness: tuple[HarnessRow, ...] = ()
    retention: tuple[RetentionRow, ...] = ()
