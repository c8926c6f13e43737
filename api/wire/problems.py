"""RFC 9457 problem documents: every error leaves the server as `application/problem+json` with a stable `code`."""

from dataclasses import dataclass

from api.errors import PROBLEM_KINDS, ApiRoomError, TooManyRequests
from api.wire.places import pointer_of
from evaluation.errors import EvaluationError
from finetune.errors import FinetuneError
from ropewalk.errors import RopewalkError
from ropewalk.wire.problems import FieldProblem, Problem
from service.errors import ServiceError
from storage.errors import StorageError
from workers.errors import WorkersError

MEDIA_TYPE = "application/problem+json"
ROOM_ERRORS = (
    ApiRoomError,
    RopewalkError,
    EvaluationError,
    WorkersError,
    StorageError,
    FinetuneError,
    ServiceError,
)


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


def refusal_of(error: Exception, *, location: str = "body", path: str = "") -> Refusal:
    """The problem for an error of any room; anything unknown is an internal error, reported without its text.

    `location` is where the request has its fields, and `path` where it went.
    """
    if not isinstance(error, ROOM_ERRORS):
        return Refusal(code="INTERNAL_ERROR", detail="The server could not finish the request; its log says why.")
    detail = str(error).encode("utf-8", "backslashreplace").decode()  # a path or a field may hold half a character
    code = error.code if error.code in PROBLEM_KINDS else "INTERNAL_ERROR"
    errors: tuple[FieldProblem, ...] = ()
    if pointer := pointer_of(error, path):
        errors = (FieldProblem(pointer=pointer, detail=detail, code=code, location=location),)
    headers = (("Retry-After", str(error.retry_after_seconds)),) if isinstance(error, TooManyRequests) else ()
    return Refusal(code=code, detail=detail, errors=errors, headers=headers)
