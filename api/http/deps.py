"""What routes are given: the service's door, who asks, and the idempotency key."""

from typing import Annotated, TypeVar

from fastapi import Depends, Header, Query, Request

from api.errors import InsufficientScope, MalformedRequest
from api.http.scopes import Principal
from ropewalk.wire.kinds import JobState
from service.door import Door
from service.specs.base import Spec
from storage.records import PRIORITIES

DEFAULT_LIMIT = 20
MAX_LIMIT = 200
MAX_NUMBER = 2**31 - 1  # of a trial
MAX_EVENT_ID = 2**63 - 1
MAX_FILTER_CHARACTERS = 1000


def get_door(request: Request) -> Door:
    """The service's door, put there by `create_app`."""
    door: Door = request.app.state.door
    return door


def get_principal(request: Request) -> Principal:
    """Who asks, as the access middleware found out."""
    principal: Principal = request.state.principal
    return principal


def get_idempotency_key(
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="repeating the request with the same key returns the first job",
            max_length=255,
        ),
    ] = None,
) -> str | None:
    """The Idempotency-Key header."""
    if idempotency_key is not None and not (idempotency_key and idempotency_key.isprintable()):
        raise MalformedRequest("Idempotency-Key must have 1 to 255 printable characters")
    return idempotency_key


def get_limit(
    limit: Annotated[int, Query(ge=1, description=f"page size, capped at {MAX_LIMIT}")] = DEFAULT_LIMIT,
) -> int:
    """The page size."""
    return min(limit, MAX_LIMIT)


def get_label(
    label: Annotated[
        str | None,
        Query(
            description="only jobs with this label: key=value",
            examples=["team=nlp"],
            max_length=MAX_FILTER_CHARACTERS,
        ),
    ] = None,
) -> tuple[str, str] | None:
    """The label filter.

    Raises:
        MalformedRequest: not key=value.
    """
    if label is None:
        return None
    key, separator, value = label.partition("=")
    if not (key and separator and value):
        raise MalformedRequest(f"label must be key=value, but got {label!r}")
    return key, value


TheDoor = Annotated[Door, Depends(get_door)]
Who = Annotated[Principal, Depends(get_principal)]
IdempotencyKey = Annotated[str | None, Depends(get_idempotency_key)]
Limit = Annotated[int, Depends(get_limit)]
Label = Annotated[tuple[str, str] | None, Depends(get_label)]
State = Annotated[JobState | None, Query(description="only jobs in this state")]
PageToken = Annotated[
    str | None,
    Query(description="next_page_token of the previous page, with the same filters", max_length=MAX_FILTER_CHARACTERS),
]
Mine = Annotated[bool, Query(description="only jobs of this key's owner")]
Priority = Annotated[
    int,
    Query(
        ge=PRIORITIES[0], le=PRIORITIES[1], description="those with a greater one come first; above 0 for admin only"
    ),
]
After = Annotated[int, Query(ge=0, le=MAX_EVENT_ID, description="only events with a greater id")]
TrialNumber = Annotated[int | None, Query(ge=0, le=MAX_NUMBER)]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", description="resume an event stream after this id")]


def check_priority(who: Principal, priority: int) -> None:
    """Return when `who` may give a job this priority.

    Raises:
        InsufficientScope: before everybody else's jobs comes what admins say.
    """
    if priority > 0 and not who.may("admin"):
        raise InsufficientScope(f"a priority above 0 needs a key with scope admin, but got priority={priority}")


SpecType = TypeVar("SpecType", bound=Spec)


def without_nul(spec: SpecType) -> SpecType:
    """The spec, unless it holds what PostgreSQL's text cannot."""
    if "\\u0000" in spec.canonical_json():
        raise ValueError("text must not contain NUL characters")
    return spec
