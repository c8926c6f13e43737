"""`/v1/finetunes`: mixed-context-window training started from found factors."""

from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import AfterValidator

from api.http import deps
from api.http.routes import common
from api.http.routes.jobs import add_job_routes
from api.wire.strict_json import StrictRoute
from ropewalk.wire.jobs import EXAMPLE_SEARCH_ID, JobResource
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
def create_finetune(spec: SpecBody, door: deps.TheDoor, submission: common.TheSubmission) -> JobResource:
    """Submit a fine-tuning job."""
    submission.check(spec)
    return submission.accept(spec, door.submissions.submit_finetune)


add_job_routes(
    router,
    "finetune",
    page="Fine-tuning jobs, newest first.",
    one="One fine-tuning job; its result names the checkpoint.",
    actions={
        "cancel": "End the job; a search that waits for it ends too.",
        "pause": "Pause the job; it goes on from the last state that it kept (`checkpoint_every`).",
        "resume": "Continue a paused job, on any controller.",
    },
    events="The job's history, as JSON or as a stream of server-sent events.",
)
