"""RFC 9457 problem documents: every error leaves the server as `application/problem+json` with a stable `code`."""

import json
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from api.errors import PROBLEM_KINDS, ApiRoomError, TooManyRequests
from evaluation.errors import EvaluationError
from finetune.errors import FinetuneError
from search_space.errors import SearchSpaceError
from service.errors import InvalidSpec, ServiceError
from storage.errors import StorageError
from workers.errors import WorkersError

MEDIA_TYPE = "application/problem+json"
ROOM_ERRORS = (
    ApiRoomError,
    SearchSpaceError,
    EvaluationError,
    WorkersError,
    StorageError,
    FinetuneError,
    ServiceError,
)


class FieldProblem(BaseModel):
    """One field that breaks a rule."""

    pointer: str = Field(description="JSON pointer into the body, or /name of a query, path or header parameter")
    location: str = Field("body", description="body, query, path or header")
    detail: str
    code: str = Field(description="the rule's name")


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:ropewalk:problem:invalid-spec",
                "title": "The spec breaks a rule",
                "status": 422,
                "detail": "target_length must be greater than the model's original length, but got "
                "target_length=128, original_length=256",
                "instance": "/v1/searches",
                "code": "INVALID_SPEC",
                "request_id": "0f4c2a7e9b1d4e5f",
                "errors": [
                    {
                        "pointer": "/target_length",
                        "location": "body",
                        "detail": "target_length must be greater than the model's original length",
                        "code": "INVALID_SPEC",
                    }
                ],
            }
        }
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="stable; programs branch on this")
    request_id: str | None = None
    errors: list[FieldProblem] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """What is known about one error, before it becomes a response."""

    code: str
    detail: str
    status: int | None = None  # None: what the table says
    errors: tuple[FieldProblem, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


def problem_of(refusal: Refusal, *, instance: str, request_id: str | None) -> Problem:
    """The document of one refusal."""
    kind = PROBLEM_KINDS[refusal.code]
    return Problem(
        type=f"urn:ropewalk:problem:{refusal.code.lower().replace('_', '-')}",
        title=kind.title,
        status=refusal.status or kind.status,
        detail=refusal.detail,
        instance=instance,
        code=refusal.code,
        request_id=request_id,
        errors=list(refusal.errors) or None,
    )


def refusal_of(error: Exception, *, location: str = "body") -> Refusal:
    """The problem for an error of any room; anything unknown is an internal error, reported without its text.

    `location` is where the request has its fields.
    """
    if not isinstance(error, ROOM_ERRORS):
        return Refusal(code="INTERNAL_ERROR", detail="The server could not finish the request; its log says why.")
    detail = str(error).encode("utf-8", "backslashreplace").decode()  # a path or a field may hold half a character
    code = error.code if error.code in PROBLEM_KINDS else "INTERNAL_ERROR"
    errors: tuple[FieldProblem, ...] = ()
    if isinstance(error, InvalidSpec) and error.pointer:
        errors = (FieldProblem(pointer=error.pointer, detail=detail, code=code, location=location),)
    headers = (("Retry-After", str(error.retry_after_seconds)),) if isinstance(error, TooManyRequests) else ()
    return Refusal(code=code, detail=detail, errors=errors, headers=headers)


def problem_from_text(text: str) -> Problem | None:
    """The problem document in a response's body; None when the body is something else."""
    try:
        return Problem.model_validate(json.loads(text))
    except ValueError:
        return None
