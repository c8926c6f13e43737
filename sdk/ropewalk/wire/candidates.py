"""A search's candidates as a server sends them: trials and document scores."""

from pydantic import Field

from ropewalk.wire.jobs import Resource


class TrialResource(Resource):
    """One candidate of a search."""

    number: int
    generation: int
    slot: int
    state: str
    nll: float | None = Field(description="nats per answer token over the search documents; null until scored")
    origin: str = Field(
        description="baseline:<name>, or how the strategy made it: initial, mutation, crossover, surrogate, random, "
        "iterate, average, or the sampler's name"
    )
    parents: list[int]
    critical_pair: int | None
    attention_factor: float
    reason: str | None = Field(None, description="why the trial failed")
    factors: list[float] | None = Field(None, description="long_factor, one per pair; only with view=full")


class TrialPage(Resource):
    """One page of trials by number."""

    items: list[TrialResource]
    next_after: int | None = Field(description="pass it as after for the next page; null: no more for now")


class ScoreResource(Resource):
    """One candidate on one document."""

    trial: int
    split: str
    document_id: str
    nats: float = Field(description="sum over the answer tokens")
    tokens: int = Field(description="answer tokens")
    exact: bool = Field(description="every answer token was the most likely one")
    worker: str
    seconds: float


class ScoreList(Resource):
    """One page of the document scores of one split, by trial and document id."""

    items: list[ScoreResource]
    next_after: str | None = Field(description="pass it as after; null: the last page")
