"""`/v1/evaluations`: a model at several lengths with given factors, beside the baselines."""

from typing import Annotated

from fastapi import APIRouter, Body, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import AfterValidator

from api.errors import ReportNotReady
from api.http import deps
from api.http.routes import common
from api.report.page import evaluation_page
from api.wire.jobs import EXAMPLE_SEARCH_ID, EventList, JobPage, JobResource
from api.wire.strict_json import StrictRoute
from service.specs.evaluation import EvaluationSpec

router = APIRouter(prefix="/v1/evaluations", tags=["evaluations"], route_class=StrictRoute)

# The page has a style of its own, and loads and runs nothing.
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

SpecBody = Annotated[
    EvaluationSpec,
    AfterValidator(deps.without_nul),
    Body(
        openapi_examples={
            "search": {
                "summary": "with the factors of a finished search",
                "value": {"search_id": EXAMPLE_SEARCH_ID, "documents": 40},
            },
            "baselines": {
                "summary": "the analytic baselines alone",
                "value": {"model": "pocket", "target_length": 1024, "documents": 40},
            },
            "ruler": {
                "summary": "RULER by generation, plain text, and a fine-tuned checkpoint beside the found factors",
                "value": {
                    "search_id": EXAMPLE_SEARCH_ID,
                    "finetune_id": "ft_01jd8x6t4n0000000000000000",
                    "tasks": ["all"],
                    "text_windows": 20,
                },
            },
        }
    ),
]


@router.post("", status_code=202, operation_id="create_evaluation", responses=common.CREATE_RESPONSES)
def create_evaluation(
    spec: SpecBody,
    door: deps.TheDoor,
    who: deps.Who,
    key: deps.IdempotencyKey,
    request: Request,
    response: Response,
) -> JobResource:
    """Submit an evaluation."""
    deps.check_readable(spec, who, request)
    created = door.submit_evaluation(spec, idempotency=deps.idempotency(key, who, request, spec))
    return common.accepted(created, response)


@router.get("", operation_id="list_evaluations", responses=common.problems())
def list_evaluations(
    door: deps.TheDoor,
    limit: deps.Limit,
    label: deps.Label,
    state: deps.State = None,
    page_token: deps.PageToken = None,
) -> JobPage:
    """Evaluations, newest first."""
    return JobPage.of(door.jobs("evaluation", state=state, label=label, limit=limit, page_token=page_token))


@router.get("/{evaluation_id}", operation_id="get_evaluation", responses=common.problems(404))
def get_evaluation(evaluation_id: str, door: deps.TheDoor) -> JobResource:
    """One evaluation; its result holds the table's rows."""
    return JobResource.of(door.job("evaluation", evaluation_id))


@router.get(
    "/{evaluation_id}/report",
    operation_id="get_evaluation_report",
    response_class=HTMLResponse,
    responses=common.problems(404, 409),
)
def get_evaluation_report(evaluation_id: str, door: deps.TheDoor) -> HTMLResponse:
    """The result as one HTML page: tables and charts, without scripts and without anything from elsewhere."""
    job = JobResource.of(door.job("evaluation", evaluation_id))
    if job.result is None:
        raise ReportNotReady(f"evaluation {job.id} has no result: its state is {job.state}")
    return HTMLResponse(evaluation_page(job), headers={"Content-Security-Policy": PAGE_POLICY})


@router.post("/{evaluation_id}:cancel", operation_id="cancel_evaluation", responses=common.problems(404, 409))
def cancel_evaluation(evaluation_id: str, door: deps.TheDoor) -> JobResource:
    """End the evaluation."""
    return JobResource.of(door.request("evaluation", evaluation_id, "cancel"))


@router.get(
    "/{evaluation_id}/events",
    operation_id="list_evaluation_events",
    response_model=EventList,
    responses=common.EVENT_RESPONSES,
)
def list_evaluation_events(
    evaluation_id: str,
    door: deps.TheDoor,
    request: Request,
    after: deps.After = 0,
    last_event_id: deps.LastEventId = None,
) -> EventList | Response:
    """The evaluation's history, as JSON or as a stream of server-sent events."""
    return common.events(door, "evaluation", evaluation_id, request=request, after=after, last_event_id=last_event_id)
