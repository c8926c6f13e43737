"""What finished jobs carry as `result`, read into values; older clients ignore what newer servers add."""

from typing import TypeVar

from pydantic import Field

from api.wire.jobs import JobResource, Resource

Report = TypeVar("Report", bound=Resource)


class EvaluationRow(Resource):
    """One contender at one length on needle documents."""

    name: str
    length: int
    nll: float
    nll_standard_error: float | None
    perplexity: float
    exact_match: float
    documents: int
    by_depth: tuple[tuple[float, float, bool], ...]
    """(depth in [0, 1], nats per answer token, exact) of each document."""


class RulerRow(Resource):
    """One contender at one length: percent by RULER task, and their mean."""

    name: str
    length: int
    scores: dict[str, float]
    average: float


class TextRow(Resource):
    """One contender at one length on plain text."""

    name: str
    length: int
    nll: float
    perplexity: float
    accuracy: float
    windows: int
    tokens: int


class HarnessRow(Resource):
    """One model on one metric of one task of lm-evaluation-harness."""

    name: str
    task: str
    metric: str
    value: float
    standard_error: float | None
    higher_is_better: bool
    samples: int


class RetentionRow(Resource):
    """What one contender keeps of the unchanged model within the original length; kept is in percent."""

    name: str
    length: int | None
    measure: str
    before: float
    after: float
    kept: float | None


class EvaluationReport(Resource):
    """The result of an evaluation."""

    model: str
    original_length: int
    target_length: int
    rows: tuple[EvaluationRow, ...]
    threshold: float = 0.0
    ruler: tuple[RulerRow, ...] = ()
    effective_lengths: dict[str, int | None] = Field(default_factory=dict)
    """By contender: the longest length whose RULER average reaches the threshold."""
    text: tuple[TextRow, ...] = ()
    harness: tuple[HarnessRow, ...] = ()
    retention: tuple[RetentionRow, ...] = ()


class SearchReport(Resource):
    """The result of a search, without its factor file (see `RopewalkClient.factors`)."""

    verdict: str
    statement: str


class FinetuneReport(Resource):
    """The result of a fine-tuning job."""

    checkpoint: str
    steps: int
    tokens: int
    seconds: float


def report_of(job: JobResource, model: type[Report]) -> Report:
    """The job's result as `model`; the job must have succeeded."""
    assert job.result is not None, f"{job.id} has no result: its state is {job.state}"
    return model.model_validate(job.result)
