"""Pages for browsers that say what a job costs: one that is thought of at `/plan`, and one that there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from api.errors import PROBLEM_KINDS
from api.http import deps
from api.http.fields import first_problem
from api.http.routes import common
from api.http.routes.evaluations import PAGE_POLICY
from api.report.plan_page import Asked, Back, plan_page
from api.wire.problems import ROOM_ERRORS, refusal_of
from ropewalk.wire.plan import Plan
from service.door import Door
from service.errors import InvalidSpec
from service.specs.base import stored_spec
from service.specs.evaluation import EvaluationSpec
from service.specs.finetune import FinetuneSpec
from service.specs.plan import PlanOptions
from service.specs.search import SearchSpec
from storage.records import Job
from workers.gpus import GPUS

router = APIRouter(include_in_schema=False)

S = TypeVar("S")


class OptionsForm(BaseModel):
    """What a browser sends of the options: text, empty where nothing was filled in."""

    model_config = ConfigDict(frozen=True)

    gpu: str = ""
    gpus: str = ""
    utilisation: str = ""
    price_per_gpu_hour: str = ""

    def options(self) -> PlanOptions:
        """Raises InvalidSpec."""
        given = {name: getattr(self, name) for name in PlanOptions.model_fields}
        return _checked(PlanOptions, {name: value for name, value in given.items() if value})

    def asked(self) -> list[Asked]:
        """As fields of the form, with what they hold."""
        return [
            Asked(name="gpu", words="GPU", value=self.gpu or "H100", choices=tuple(GPUS)),
            Asked(name="gpus", words="how many", value=self.gpus, hint="as the spec says"),
            Asked(name="utilisation", words="share of its peak", value=self.utilisation, hint="0.4"),
            Asked(name="price_per_gpu_hour", words="price of a GPU-hour", value=self.price_per_gpu_hour),
        ]


class SearchForm(OptionsForm):
    """And of a search."""

    model: str = ""
    target_length: str = ""
    finetune: str = ""

    def spec(self) -> SearchSpec:
        """Raises InvalidSpec."""
        given: dict[str, Any] = {"model": self.model, "target_length": self.target_length, "finetune": {}}
        return _checked(SearchSpec, {name: value for name, value in given.items() if getattr(self, name)})

    def asked(self) -> list[Asked]:
        """As fields of the form, with what they hold."""
        return [
            Asked(name="model", words="model", value=self.model, hint="org/name"),
            Asked(name="target_length", words="target length", value=self.target_length, hint="128k"),
            Asked(name="finetune", words="and a training", value=self.finetune, is_tick=True),
            *super().asked(),
        ]


def _checked(spec: type[S], given: dict[str, Any]) -> S:
    try:
        return TypeAdapter(spec).validate_python(given)
    except ValidationError as error:
        raise InvalidSpec(first_problem(error, given, spec)) from error


@router.get("/plan")
def plan_a_search(
    form: Annotated[SearchForm, Query()], request: Request, door: deps.TheDoor, readable: common.TheReadable
) -> Response:
    """What a search and the training that follows would cost."""

    def plan() -> Plan:
        spec = form.spec()
        readable.check(spec)
        return door.plan_search(spec, form.options())

    back = Back(address=f"{request.scope.get('root_path', '')}/", words="all jobs")
    if not form.model and not form.target_length:
        return _page(plan_page("What a search costs", form.asked(), back))
    return _planned("What a search costs", form, back, plan)


@router.get("/jobs/{job_id}/plan")
def plan_a_job(job_id: str, form: Annotated[OptionsForm, Query()], request: Request, door: deps.TheDoor) -> Response:
    """What this job was to cost from its beginning."""
    job = door.job_of_any_kind(job_id)
    back = Back(address=f"{request.scope.get('root_path', '')}/jobs/{job.id}", words=job.id)
    return _planned(f"What this {job.kind} costs", form, back, lambda: _plan_of(job, door, form.options()))


def _plan_of(job: Job, door: Door, options: PlanOptions) -> Plan:
    match job.kind:
        case "search":
            return door.plan_search(stored_spec(SearchSpec, job.spec_json), options)
        case "finetune":
            return door.plan_finetune(stored_spec(FinetuneSpec, job.spec_json), options)
        case "evaluation":
            return door.plan_evaluation(stored_spec(EvaluationSpec, job.spec_json), options)


def _planned(title: str, form: OptionsForm, back: Back, plan: Callable[[], Plan]) -> Response:
    """The page of a plan, or of why there is none."""
    try:
        return _page(plan_page(title, form.asked(), back, found=plan()))
    except ROOM_ERRORS as error:
        refusal = refusal_of(error)
        page = plan_page(title, form.asked(), back, problem=refusal.detail)
        return _page(page, status=refusal.status or PROBLEM_KINDS[refusal.code].status)


def _page(text: str, *, status: int = 200) -> HTMLResponse:
    headers = {"Content-Security-Policy": f"{PAGE_POLICY}; form-action 'self'", "Cache-Control": "no-store"}
    return HTMLResponse(text, status_code=status, headers=headers)
