"""`/v1/models:inspect`: what a model is and what an extension of it meets."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.http import deps
from api.http.routes import common
from ropewalk.wire.inspection import Inspection
from service.specs.inspection import InspectionSpec

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models:inspect", operation_id="inspect_model", responses=common.problems())
def inspect_model(
    asked: Annotated[InspectionSpec, Query()], door: deps.TheDoor, readable: common.TheReadable
) -> Inspection:
    """What a model is: lengths, rotary embedding, layers, memory, which programs could load its factors, and what
    published work says of models like it. Reads the model's config and no weights."""
    readable.check(asked)
    return door.inspect_model(asked)
