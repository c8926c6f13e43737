"""`/v1/finetunes`: mixed-context-window training started from found factors."""

from typing import Annotated

from fastapi import APIRouter, Body, Request, Response
from pydantic import AfterValidator

from api.http import deps
from api.http.routes import common
from api.wire.jobs import EXAMPLE_SEARCH_ID, EventList, JobPage, JobResource
from api.wire.strict_json import StrictRoute
from service.specs.finetune import FinetuneSpec

router = APIRouter(prefix="/v1/finetunes", tags=["finetunes"], route_class=StrictRoute)

SpecBody = Annotated[
    FinetuneSpec,
    AfterValidator(deps.without_nul),
    Body(
        openapi_examples={
            "search": {
                "summary": "with the factors of a finished search",
                "value": {"search_id": EXAMPLE_SEARCH_ID, "settings": {"steps": 60}},
            }
        }
    ),
]


@router.post("", status_code=202, operation_id="create_finetune", responses=common.CREATE_RESPONSES)
def create_finetune(
    spec: SpecBody,
    door: deps.TheDoor,
    who: deps.Who,
    key: deps.IdempotencyKey,
    request: Request,
    response: Response,
) -> JobResource:
    """Submit a fine-tuning job."""
    deps.check_readable(spec, who, request)
    created = door.submit_finetune(spec, idempotency=deps.idempotency(key, who, request, spec))
    return common.accepted(created, response)


@router.get("", operation_id="list_finetunes", responses=common.problems())
def list_finetunes(
    door: deps.TheDoor,
    limit: deps.Limit,
    label: deps.Label,
    state: deps.State = None,
    page_token: deps.PageToken = None,
) -> JobPage:
    """Fine-tuning jobs, newest first."""
    return JobPage.of(door.jobs("finetune", state=state, label=label, limit=limit, page_token=page_token))


@router.get("/{finetune_id}", operation_id="get_finetune", responses=common.problems(404))
def get_finetune(finetune_id: str, door: deps.TheDoor) -> JobResource:
    """One fine-tuning job; its result names the checkpoint."""
    return JobResource.of(door.job("finetune", finetune_id))


@router.post("/{finetune_id}:cancel", operation_id="cancel_finetune", responses=common.problems(404, 409))
def cancel_finetune(finetune_id: str, door: deps.TheDoor) -> JobResource:
    """End the job; a search that waits for it ends too."""
    return JobResource.of(door.request("finetune", finetune_id, "cancel"))


@router.post("/{finetune_id}:pause", operation_id="pause_finetune", responses=common.problems(404, 409))
def pause_finetune(finetune_id: str, door: deps.TheDoor) -> JobResource:
    """Pause the job; it goes on from the last state that it kept (`checkpoint_every`)."""
    return JobResource.of(door.request("finetune", finetune_id, "pause"))


@router.post("/{finetune_id}:resume", operation_id="resume_finetune", responses=common.problems(404, 409))
def resume_finetune(finetune_id: str, door: deps.TheDoor) -> JobResource:
    """Continue a paused job, on any controller."""
    return JobResource.of(door.request("finetune", finetune_id, "resume"))


@router.get(
    "/{finetune_id}/events",
    operation_id="list_finetune_events",
    response_model=EventList,
    responses=common.EVENT_RESPONSES,
)
def list_finetune_events(
    finetune_id: str,
    door: deps.TheDoor,
    request: Request,
    after: deps.After = 0,
    last_event_id: deps.LastEventId = None,
) -> EventList | Response:
    """The job's history, as JSON or as a stream of server-sent events."""
    return common.events(door, "finetune", finetune_id, request=request, after=after, last_event_id=last_event_id)
