"""Webhooks and what they are told, as values: frozen, keyword-only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ropewalk.wire.kinds import JobKind, JobState


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """Where changes of jobs' states are told, without its secret."""

    id: str
    owner: str
    #: or those of its owner
    every_job: bool
    url: str
    states: tuple[JobState, ...]
    created_at: datetime
    #: nothing is told there any more
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One change of a job's state that is told to one webhook, and what became of it."""

    id: int
    webhook_id: str
    job_id: str
    #: which event of the job's history it is
    event_id: int
    state: JobState
    previous_state: JobState | None
    attempts: int
    #: of the next attempt; None: there is none
    due_at: datetime | None
    #: None: not yet
    delivered: bool | None
    #: of the last attempt
    status: int | None
    reason: str | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """A delivery to be made now, with all that is sent."""

    delivery: Delivery
    url: str
    secret: bytes
    kind: JobKind
    labels: tuple[tuple[str, str], ...]
    error_code: str | None
