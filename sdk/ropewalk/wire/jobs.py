"""Jobs and their events as a server sends them. Times are RFC 3339 in UTC."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.config import JsonDict

from ropewalk.wire.evaluation import EvaluationReport
from ropewalk.wire.kinds import JobKind, JobState
from ropewalk.wire.reports import FinetuneReport, Report, SearchReport

EXAMPLE_SEARCH_SPEC: JsonDict = {
    "model": "pocket",
    "target_length": 1024,
    "objective": {"documents": 24, "validation_documents": 80},
    "strategy": {"name": "auto"},
    "budget": {"max_trials": 200},
    "seed": 0,
    "labels": {"team": "long-context"},
}
#: What jobs of each kind carry as `result`.
REPORTS: Mapping[JobKind, type[SearchReport] | type[FinetuneReport] | type[EvaluationReport]] = {
    "search": SearchReport,
    "finetune": FinetuneReport,
    "evaluation": EvaluationReport,
}
ReportT = TypeVar("ReportT", bound=Report)

EXAMPLE_SEARCH_ID = "srch_01jd8x6t4n0000000000000000"


class Resource(BaseModel):
    """A frozen response model; unknown fields of newer servers are ignored by older clients."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ProgressResource(Resource):
    """How far a job is; document passes are the unit of cost."""

    stage: str = ""
    generation: int | None = None
    trials: int = 0
    document_passes: int = 0
    total_document_passes: int | None = None
    tokens: int = Field(0, description="of those passes; a skipped document has fewer than the target length")
    total_tokens: int | None = Field(None, description="of all passes, an upper bound")
    cached_passes: int = Field(0, description="document passes served by the score cache")
    best_nll: float | None = Field(None, description="nats per answer token, search documents")
    best_trial: int | None = None
    fraction: float | None = Field(None, description="0 to 1")
    seconds_left: float | None = Field(
        None, description="of the stage, at its own speed so far; an upper bound where the totals are; null: not known"
    )
    note: str = ""


class ConditionResource(Resource):
    """What the job's controller last saw of one aspect of it."""

    type: Literal["DatabaseReachable", "Progressing", "WorkersReady"]
    status: bool
    reason: str = Field(description="one word in CamelCase; programs branch on this")
    message: str
    last_transition_time: datetime | None = Field(description="when status or reason last changed")


class JobError(Resource):
    """Why a job failed."""

    code: str
    message: str


class JobResource(Resource):
    """A search, a fine-tuning job or an evaluation; it is its own long-running operation."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": EXAMPLE_SEARCH_ID,
                "kind": "search",
                "state": "searching",
                "request": "none",
                "labels": {"team": "long-context"},
                "parent_id": None,
                "owner": "key:x4k2p9m7qa",
                "priority": 0,
                "spec": EXAMPLE_SEARCH_SPEC,
                "progress": {
                    "stage": "searching",
                    "generation": 3,
                    "trials": 120,
                    "document_passes": 2880,
                    "total_document_passes": 4992,
                    "tokens": 2_949_120,
                    "total_tokens": 5_111_808,
                    "best_nll": 0.0831,
                    "best_trial": 97,
                    "fraction": 0.577,
                    "seconds_left": 212.5,
                    "note": "",
                },
                "conditions": [
                    {
                        "type": "Progressing",
                        "status": True,
                        "reason": "Claimed",
                        "message": "host:4242 is at work",
                        "last_transition_time": "2026-01-05T12:00:01Z",
                    }
                ],
                "failures": 0,
                "retry_at": None,
                "result": None,
                "error": None,
                "warnings": [],
                "created_at": "2026-01-05T12:00:00Z",
                "updated_at": "2026-01-05T12:03:10Z",
                "started_at": "2026-01-05T12:00:01Z",
                "finished_at": None,
            }
        }
    )

    id: str
    kind: JobKind = Field(description="as in the id's prefix")
    state: JobState
    request: str = Field(description="none, cancel or pause: what is requested and not yet done")
    labels: dict[str, str]
    parent_id: str | None = Field(description="the search that started this fine-tuning job")
    owner: str | None = Field(
        None,
        description="whose it is: the owner of the key it was submitted with, or local; null: not known",
    )
    priority: int = Field(0, description="among jobs that wait, a greater one comes first")
    spec: dict[str, JsonValue] = Field(description="the spec as submitted, with every default filled in")
    progress: ProgressResource
    conditions: list[ConditionResource] = Field([], description="empty until a controller has claimed the job")
    failures: int = Field(0, description="consecutive infrastructure failures, without an accepted score in between")
    retry_at: datetime | None = Field(None, description="time of the next attempt after the last of them")
    result: SearchReport | FinetuneReport | EvaluationReport | None
    error: JobError | None
    warnings: list[str] = Field([], description="what to know of the model before any result is trusted")
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    def report(self, kind: type[ReportT]) -> ReportT:
        """The result of a job that has succeeded, by its type."""
        assert isinstance(self.result, kind), f"{self.id} has no {kind.__name__}: its state is {self.state}"
        return self.result

    @property
    def is_final(self) -> bool:
        """Whether nothing about this job will change any more."""
        return self.state.is_final


class JobSummary(Resource):
    """A job in a list: without spec and result."""

    id: str
    kind: JobKind
    state: JobState
    model: str | None = Field(None, description="as the spec has it; null where another job says it")
    target_length: int | None = Field(None, description="L', tokens, as the spec has it")
    labels: dict[str, str]
    parent_id: str | None
    owner: str | None = Field(
        None,
        description="whose it is: the owner of the key it was submitted with, or local; null: not known",
    )
    priority: int = 0
    progress: ProgressResource
    error: JobError | None
    created_at: datetime
    finished_at: datetime | None


class JobPage(Resource):
    """One page of jobs, newest first."""

    items: list[JobSummary]
    next_page_token: str | None = Field(description="pass it as page_token with the same filters; null: the last page")


class DeletedResource(Resource):
    """What went with a job that was deleted."""

    id: str
    kind: JobKind
    scores: int = Field(description="accepted document scores; what the score cache knows stays there")
    events: int
    trials: int = Field(description="of its study")
    bytes: int = Field(description="of its files, as far as the server reached them")


class EventResource(Resource):
    """One entry of a job's append-only history."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": 17,
                "type": "best.improved",
                "data": {"trial": 97, "nll": 0.0831, "generation": 3, "document_passes": 2880, "tokens": 2_949_120},
                "created_at": "2026-01-05T12:03:10Z",
            }
        }
    )

    id: int
    type: str
    data: dict[str, JsonValue]
    created_at: datetime


class EventList(Resource):
    """Events after the one asked for, oldest first."""

    items: list[EventResource]
    next_after: int = Field(description="pass it as after to continue")


class EstimateResource(Resource):
    """What a spec would cost, without submitting it."""

    spec: dict[str, JsonValue] = Field(description="the spec with every default filled in")
    candidates: int = Field(description="bred candidates, an upper bound")
    baselines: int = Field(description="analytic baselines, scored first")
    document_passes: int = Field(description="forward passes over one search document, an upper bound")
    tokens: int = Field(description="of those passes, an upper bound")
    validation_document_passes: int = Field(description="forward passes over one held-out document, an upper bound")
    validation_tokens: int = Field(description="of those passes, an upper bound")
    warnings: list[str] = Field([], description="what to know of the model before any result is trusted")


class Health(Resource):
    """Whether the process answers."""

    status: Literal["ok"] = "ok"
    version: str


class Readiness(Resource):
    """Whether the database answers and its schema is current."""

    status: Literal["ready"] = "ready"
    detail: str
