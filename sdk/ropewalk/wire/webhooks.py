"""Webhooks and their deliveries as a server sends them."""

from datetime import datetime

from pydantic import Field

from ropewalk.wire.jobs import Resource
from ropewalk.wire.kinds import JobState


class WebhookResource(Resource):
    """Where changes of jobs' states are told."""

    id: str
    owner: str
    every_job: bool = Field(description="told of every job: its owner has scope admin; else of the owner's own")
    url: str
    states: list[JobState] = Field(description="a job that comes into one of these is told")
    created_at: datetime
    ended_at: datetime | None = Field(description="nothing is told there since")


class NewWebhookResource(WebhookResource):
    """A webhook with its secret, which is shown once."""

    secret: str = Field(description="of the signatures, as libraries for Standard Webhooks take it: whsec_...")


class WebhookList(Resource):
    """Webhooks, oldest first."""

    items: list[WebhookResource]


class DeliveryResource(Resource):
    """One change of a job's state, and what became of telling it."""

    id: int
    job_id: str
    event_id: int = Field(description="of the event in the job's history")
    state: JobState
    previous_state: JobState | None
    attempts: int
    delivered: bool | None = Field(description="null: not yet")
    next_attempt_at: datetime | None
    status: int | None = Field(description="HTTP status of the last attempt; null: no answer")
    reason: str | None = Field(description="what was wrong with the last attempt")
    created_at: datetime


class DeliveryList(Resource):
    """The last 200 deliveries, newest first; those that ended more than 30 days ago are forgotten."""

    items: list[DeliveryResource]
