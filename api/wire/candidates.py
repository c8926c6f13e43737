"""Response models of a search's candidates: trials and document scores."""

from typing import Self

from pydantic import Field

from api.wire.jobs import Resource
from storage.records import StoredScore, TrialRecord


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

    @classmethod
    def of(cls, trial: TrialRecord, *, full: bool) -> Self:
        """From the study's record."""
        candidate = trial.candidate
        return cls(
            number=trial.number,
            generation=trial.generation,
            slot=trial.slot,
            state=str(trial.state),
            nll=trial.nll,
            origin=candidate.origin,
            parents=list(candidate.parents),
            critical_pair=candidate.critical_pair,
            attention_factor=candidate.scaling.attention_factor,
            reason=trial.reason,
            factors=list(candidate.scaling.factors.values) if full else None,
        )


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

    @classmethod
    def of(cls, stored: StoredScore) -> Self:
        """From the stored row."""
        score = stored.score
        return cls(
            trial=stored.trial,
            split=stored.split,
            document_id=score.document_id,
            nats=score.nats,
            tokens=score.tokens,
            exact=score.exact,
            worker=stored.worker,
            seconds=stored.seconds,
        )


class ScoreList(Resource):
    """One page of the document scores of one split, by trial and document id."""

    items: list[ScoreResource]
    next_after: str | None = Field(description="pass it as after; null: the last page")
