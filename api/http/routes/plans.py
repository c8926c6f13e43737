"""`/v1/searches:plan` and its siblings: what a job would cost, before there is one."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.http import deps
from api.http.routes import common, evaluations, finetunes, searches
from api.wire.strict_json import StrictRoute
from ropewalk.wire.plan import Plan
from service.specs.plan import PlanOptions

router = APIRouter(prefix="/v1", tags=["plans"], route_class=StrictRoute)

Options = Annotated[PlanOptions, Query()]
_REFUSALS = common.problems(404, 409, 413, 415)


@router.post("/searches:plan", operation_id="plan_search", responses=_REFUSALS)
def plan_search(spec: searches.SpecBody, options: Options, door: deps.TheDoor, readable: common.TheReadable) -> Plan:
    """What a search, its validation and the training that follows would cost on given GPUs. No weights are read, no job
    is made."""
    readable.check(spec)
    return door.plan_search(spec, options)


@router.post("/finetunes:plan", operation_id="plan_finetune", responses=_REFUSALS)
def plan_finetune(spec: finetunes.SpecBody, options: Options, door: deps.TheDoor, readable: common.TheReadable) -> Plan:
    """What a fine-tuning job would cost."""
    readable.check(spec)
    return door.plan_finetune(spec, options)


@router.post("/evaluations:plan", operation_id="plan_evaluation", responses=_REFUSALS)
def plan_evaluation(
    spec: evaluations.SpecBody, options: Options, door: deps.TheDoor, readable: common.TheReadable
) -> Plan:
    """What an evaluation would cost."""
    readable.check(spec)
    return door.plan_evaluation(spec, options)
