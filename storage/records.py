"""The values that cross this room's border: frozen, keyword-only, validated on construction.

Times are timezone-aware UTC and come from the database's clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, Literal, TypeVar

from evaluation.scores.score import DocumentScore
from ropewalk.wire.kinds import JobKind, JobRequest, JobState
from search_space.candidates.candidate import Candidate

ConditionType = Literal["DatabaseReachable", "Progressing", "WorkersReady"]

Scope = Literal["read", "submit", "own", "admin", "worker"]
SCOPES: tuple[Scope, ...] = ("read", "submit", "own", "admin", "worker")
PRIORITIES = (-100, 100)

T = TypeVar("T")


class TrialState(StrEnum):
    """Where a candidate is: Optuna's states under the names that the API shows."""

    waiting = "waiting"
    running = "running"
    complete = "complete"
    pruned = "pruned"
    failed = "failed"

    @property
    def is_finished(self) -> bool:
        """Whether the trial has ended: a finished trial never changes."""
        return self in (TrialState.complete, TrialState.pruned, TrialState.failed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a job is; written by its controller, read by everyone."""

    stage: str = ""
    #: the generation being scored
    generation: int | None = None
    trials: int = 0
    #: forward passes over one document so far, the unit of search effort
    document_passes: int = 0
    total_document_passes: int | None = None
    #: of those passes
    tokens: int = 0
    total_tokens: int | None = None
    #: those of `document_passes` that the score cache answered
    cached_passes: int = 0
    #: nats per answer token
    best_nll: float | None = None
    #: trial number
    best_trial: int | None = None
    #: in [0, 1]
    fraction: float | None = None
    #: of the stage, at the speed so far; at most so many where the total is an upper bound
    seconds_left: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.best_nll is not None and not math.isfinite(self.best_nll):
            raise ValueError(f"best_nll must be finite, but got best_nll={self.best_nll}")
        if self.fraction is not None and not 0.0 <= self.fraction <= 1.0:
            raise ValueError(f"fraction must be in [0, 1], but got fraction={self.fraction}")
        if self.seconds_left is not None and not (math.isfinite(self.seconds_left) and self.seconds_left >= 0.0):
            raise ValueError(f"seconds_left must be at least 0, but got seconds_left={self.seconds_left}")
        if self.trials < 0 or self.document_passes < 0:
            raise ValueError(
                "trials and document_passes must be at least 0, "
                f"but got trials={self.trials}, document_passes={self.document_passes}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """What the job's controller last saw of one aspect of it."""

    type: ConditionType
    status: bool
    #: one word in CamelCase that programs branch on
    reason: str
    #: for people
    message: str
    #: when status or reason last changed; None before it is stored
    changed_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One row of the jobs table: a search, a fine-tuning or an evaluation."""

    #: its kind's prefix, an underscore and 26 characters that sort by creation time
    id: str
    kind: JobKind
    state: JobState
    #: canonical JSON text; this room never looks inside
    spec_json: str
    labels: tuple[tuple[str, str], ...]
    #: the search that handed this fine-tuning off
    parent_id: str | None
    #: what the user asked for and the controller has not done yet
    request: JobRequest
    progress: Progress
    result_json: str | None
    #: set when and only when the state is failed
    error_code: str | None
    error_message: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    lease_owner: str | None
    #: grows by one with every claim and never shrinks
    lease_epoch: int
    lease_expires_at: datetime | None
    #: grows by one with every visible change (not with lease renewals): an ETag
    version: int
    #: by type; those of a job that nobody works on tell of its rest alone
    conditions: tuple[Condition, ...] = ()
    #: infrastructure failures since the last accepted score
    failures: int = 0
    #: not to be claimed before then
    retry_at: datetime | None = None
    #: who submitted it, or the search that handed it off; None: nobody knows
    owner: str | None = None
    #: those with a greater one are claimed first
    priority: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The right to write for one job: worth something as long as owner and epoch are those in the database and its
    clock has not passed the expiry."""

    job_id: str
    owner: str
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One row of a job's append-only history. Ids grow in the order in which events of a job become visible."""

    id: int
    job_id: str
    type: str
    data_json: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Page(Generic[T]):
    """A slice of a list; `next_page_token` is None on the last one."""

    items: tuple[T, ...]
    next_page_token: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class IdempotencyRequest:
    """Makes a repeated creation return the first one's job."""

    #: who asks: keys of different principals never meet
    principal: str
    #: the Idempotency-Key header
    key: str
    #: a hash of the request's method, path and body
    request_hash: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.key) <= 255:
            raise ValueError(f"an idempotency key must have 1 to 255 characters, but got {len(self.key)}")
        if not self.request_hash:
            raise ValueError("request_hash must not be empty")


@dataclass(frozen=True, kw_only=True, slots=True)
class Created:
    """The outcome of a creation; `replayed` when an earlier request with the same key had made the job."""

    job: Job
    replayed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredScore:
    """One accepted document score of a job, with where it came from. `trial` is a trial number, or the row's number
    in an evaluation."""

    split: str
    trial: int
    score: DocumentScore
    worker: str
    attempts: int = 1
    seconds: float = 0.0
    #: the fingerprint of what produced the score, 16 hexadecimal digits; empty when not known
    scorer: str = ""

    def __post_init__(self) -> None:
        if self.trial < 0 or self.attempts < 1:
            raise ValueError(
                "trial must be at least 0 and attempts at least 1, "
                f"but got trial={self.trial}, attempts={self.attempts}"
            )
        if not self.split:
            raise ValueError("split must not be empty")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """One candidate of a search's study."""

    #: dense from 0 in order of creation
    number: int
    generation: int
    #: the position within the generation
    slot: int
    candidate: Candidate
    state: TrialState
    #: mean NLL in nats per answer token; None unless complete
    nll: float | None
    #: why the trial failed
    reason: str | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the trial has ended: complete, pruned or failed."""
        return self.state.is_finished


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """An API key without its secret."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    revoked_at: datetime | None
    #: whose jobs are submitted with it: several keys may be one owner's; "key:ID" where it is nobody else's
    owner: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A file that a job has left, whole in the store of files."""

    #: what users call it: "factors.json", "checkpoint/model.safetensors"
    name: str
    #: where it is, below the store's root
    key: str
    bytes: int
    #: of its content, 64 hexadecimal digits
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheduling:
    """What decides when a new job is claimed, beside the time of its creation."""

    #: in PRIORITIES
    priority: int = 0
    #: that it will hold at once
    workers: int = 1
    #: whose turn it is; None: whoever submits it
    owner: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one owner may have at once; None: any number."""

    running_jobs: int | None = None
    workers: int | None = None
    #: of files
    stored_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("running_jobs", 1), ("workers", 1), ("stored_bytes", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, but got {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """Who did what."""

    id: int
    actor: str
    #: e.g. "job.deleted"
    action: str
    #: the id of a job, of a key or of a webhook, which may be gone
    subject: str
    data_json: str
    created_at: datetime
