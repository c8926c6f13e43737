"""`/v1/evaluations`: a model at several lengths with given factors, beside the baselines."""

from typing import Annotated

from fastapi import APIRouter, Body
from fastapi.responses import HTMLResponse
from pydantic import AfterValidator

from api.errors import ReportNotReady
from api.http import deps
from api.http.routes import common
from api.http.routes.jobs import add_job_routes
from api.report.page import evaluation_page
from api.wire.jobs import job_resource
from api.wire.strict_json import StrictRoute
from ropewalk.wire.jobs import EXAMPLE_SEARCH_ID, JobResource
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
def create_evaluation(spec: SpecBody, door: deps.TheDoor, submission: common.TheSubmission) -> JobResource:
    """Submit an evaluation."""
    submission.check(spec)
    return submission.accept(spec, door.submissions.submit_evaluation)


add_job_routes(
    router,
    "evaluation",
    page="Evaluations, newest first.",
    one="One evaluation; its result holds the table's rows.",
    actions={"cancel": "End the evaluation."},
    events="The evaluation's history, as JSON or as a stream of server-sent events.",
)


@router.get(
    "/{evaluation_id}/report",
    operation_id="get_evaluation_report",
    response_class=HTMLResponse,
    responses=common.problems(404, 409),
)
def get_evaluation_report(evaluation_id: str, door: deps.TheDoor) -> HTMLResponse:
    """The result as one HTML page: tables and charts, without scripts and without anything from elsewhere."""
    job = job_resource(door.job("evaluation", evaluation_id))
    if job.result is None:
        raise ReportNotReady(f"evaluation {job.id} has no result: its state is {job.state}")
    return HTMLResponse(evaluation_page(job), headers={"Content-Security-Policy": PAGE_POLICY})
