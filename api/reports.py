"""What finished jobs carry as `result`, read into values; older clients ignore what newer servers add."""

from typing import TypeVar

from api.schemas import JobResource, Resource

Report = TypeVar("Report", bound=Resource)


class EvaluationRow(Resource):
    """One contender at one length."""

    name: str
    length: int
    nll: float
    nll_standard_error: float | None
    perplexity: float
    exact_match: float
    documents: int
    by_depth: tuple[tuple[float, float, bool], ...]
    """(depth in [0, 1], nats per answer token, exact) of each document."""


class EvaluationReport(Resource):
    """The result of an evaluation."""

    model: str
    original_length: int
    target_length: int
    rows: tuple[EvaluationRow, ...]


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
