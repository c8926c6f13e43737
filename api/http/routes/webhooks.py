"""`/v1/webhooks`: where changes of jobs' states are told."""

from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import AfterValidator, Field

from api.http import deps
from api.http.routes import common
from api.http.scopes import Principal
from api.wire.strict_json import StrictRoute
from ropewalk.wire.kinds import JobState
from ropewalk.wire.webhooks import DeliveryList, DeliveryResource, NewWebhookResource, WebhookList, WebhookResource
from service.specs.base import Spec
from service.webhooks.addresses import MAX_URL
from storage.deliveries import Delivery, Webhook

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=StrictRoute)

RESTING = (JobState.succeeded, JobState.failed, JobState.cancelled, JobState.paused)


class WebhookSpec(Spec):
    """What is told where."""

    url: str = Field(min_length=1, max_length=MAX_URL, description="https://..., of the public internet")
    states: tuple[JobState, ...] = Field(
        RESTING, min_length=1, max_length=len(JobState), description="a job that comes into one of these is told"
    )


SpecBody = Annotated[
    WebhookSpec,
    AfterValidator(deps.without_nul),
    Body(
        openapi_examples={"ends": {"value": {"url": "https://example.com/ropewalk", "states": ["succeeded", "failed"]}}}
    ),
]


@router.post("", status_code=201, operation_id="create_webhook", responses=common.problems(409, 413, 415))
def create_webhook(spec: SpecBody, door: deps.TheDoor, who: deps.Who) -> NewWebhookResource:
    """Have changes of your jobs' states told to a URL, by signed POST requests; with scope admin, of all jobs. The
    signatures' secret is in this answer and in no other."""
    webhook, secret = door.webhooks.create(who.owner, spec.url, spec.states, every_job=who.may("admin"))
    return NewWebhookResource(**_resource(webhook).model_dump(), secret=secret)


@router.get("", operation_id="list_webhooks", responses=common.problems())
def list_webhooks(door: deps.TheDoor, who: deps.Who) -> WebhookList:
    """Your webhooks; with scope admin, all."""
    return WebhookList(items=[_resource(one) for one in door.webhooks.all(_owner(who))])


@router.get("/{webhook_id}", operation_id="get_webhook", responses=common.problems(404))
def get_webhook(webhook_id: str, door: deps.TheDoor, who: deps.Who) -> WebhookResource:
    """One of your webhooks."""
    return _resource(door.webhooks.get(webhook_id, _owner(who)))


@router.delete("/{webhook_id}", operation_id="end_webhook", responses=common.problems(404))
def end_webhook(webhook_id: str, door: deps.TheDoor, who: deps.Who) -> WebhookResource:
    """Tell nothing there any more; what is under way is given up."""
    return _resource(door.webhooks.end(webhook_id, _owner(who), actor=who.name))


@router.get("/{webhook_id}/deliveries", operation_id="list_deliveries", responses=common.problems(404))
def list_deliveries(webhook_id: str, door: deps.TheDoor, who: deps.Who) -> DeliveryList:
    """What was told last, newest first, and what became of it."""
    return DeliveryList(items=[_delivery(one) for one in door.webhooks.deliveries(webhook_id, _owner(who))])


def _owner(who: Principal) -> str | None:
    return None if who.may("admin") else who.owner


def _resource(webhook: Webhook) -> WebhookResource:
    return WebhookResource(
        id=webhook.id,
        owner=webhook.owner,
        every_job=webhook.every_job,
        url=webhook.url,
        states=list(webhook.states),
        created_at=webhook.created_at,
        ended_at=webhook.ended_at,
    )


def _delivery(delivery: Delivery) -> DeliveryResource:
    return DeliveryResource(
        id=delivery.id,
        job_id=delivery.job_id,
        event_id=delivery.event_id,
        state=delivery.state,
        previous_state=delivery.previous_state,
        attempts=delivery.attempts,
        delivered=delivery.delivered,
        next_attempt_at=delivery.due_at,
        status=delivery.status,
        reason=delivery.reason,
        created_at=delivery.created_at,
    )
