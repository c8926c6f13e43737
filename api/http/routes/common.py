"""What the routes of all kinds of jobs share: problems, acceptance and events."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from api.http import deps
from api.http.prefix import route_path
from api.http.scopes import ANYONE_LOCAL
from api.http.sse import EventSource, after_from, stream
from api.wire.jobs import event_resource, job_resource
from api.wire.problems import MEDIA_TYPE
from ropewalk.wire.jobs import EventList, JobResource
from ropewalk.wire.kinds import KINDS, JobKind
from service.door import Door
from service.readable import Readable
from service.specs.base import Spec
from service.submissions import Submitter
from storage.errors import JobNotFound
from storage.records import Created, IdempotencyRequest

POLL_AFTER_SECONDS = 2
EVENT_STREAM = "text/event-stream"
MAX_EVENTS = 200

Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int) -> Responses:
    """The problem responses of a route, for its OpenAPI entry."""
    return {
        status: {
            "description": "problem document",
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in (400, 401, 403, *statuses, 422, 429, 500, 503)
    }


CREATE_RESPONSES: Responses = {
    202: {
        "description": "accepted; the job is its own long-running operation",
        "headers": {
            "Location": {"schema": {"type": "string"}, "description": "where the job is"},
            "Retry-After": {"schema": {"type": "integer"}, "description": "seconds until a first look pays"},
            "Idempotent-Replayed": {"schema": {"type": "string"}, "description": "true: made by an earlier request"},
        },
    },
    **problems(404, 409, 413, 415),
}


@dataclass(frozen=True, kw_only=True)
class Namable:
    """What the specs of a requester may name: files, and jobs."""

    readable: Readable
    door: Door
    #: whose jobs; None: everybody's
    owner: str | None

    def check(self, spec: Spec) -> None:
        """Return when the spec names nothing else.

        Raises:
            PathNotAllowed, JobNotFound.
        """
        self.readable.check(spec)
        for name in ("search_id", "finetune_id", "start_from") if self.owner is not None else ():
            job_id = getattr(spec, name, None)
            if job_id is not None and self.door.owner(job_id) != self.owner:
                raise JobNotFound(f"{name} must be a job of your own, but there is no {job_id!r}")


def get_namable(who: deps.Who, door: deps.TheDoor, request: Request) -> Namable:
    """What this requester's specs may name. Checkpoints of the server are files of everybody's jobs."""
    state = request.app.state
    roots = state.own_roots if who.names is not None else state.roots
    return Namable(readable=Readable(roots=None if who is ANYONE_LOCAL else roots), door=door, owner=who.names)


TheReadable = Annotated[Namable, Depends(get_namable)]


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A request that submits a spec: who sends it, and what becomes of the response."""

    who: deps.Who
    door: deps.TheDoor
    readable: TheReadable
    key: deps.IdempotencyKey
    request: Request
    response: Response
    priority: deps.Priority = 0

    def check(self, spec: Spec) -> None:
        """Raise PathNotAllowed or JobNotFound where the spec names what the requester may not."""
        deps.check_priority(self.who, self.priority)
        self.readable.check(spec)

    def accept(self, spec: Spec, submit: Callable[..., Created]) -> JobResource:
        """The 202 of a creation by one of `Submissions`, or of its replay: the same principal, key, path and spec
        (defaults filled in) make the same job."""
        by = Submitter(
            creator=self.who.name,
            owner=self.who.owner,
            priority=self.priority,
            idempotency=self._idempotency(spec),
        )
        created = submit(spec, by)
        job, headers = created.job, self.response.headers
        headers["Location"] = f"{self.request.scope.get('root_path', '')}/v1/{KINDS[job.kind].collection}/{job.id}"
        headers["Retry-After"] = str(POLL_AFTER_SECONDS)
        if created.replayed:
            headers["Idempotent-Replayed"] = "true"
        return job_resource(job, self.door.warnings(job.id))

    def _idempotency(self, spec: Spec) -> IdempotencyRequest | None:
        if self.key is None:
            return None
        text = f"{self.request.method} {route_path(self.request.scope)}\n{spec.canonical_json()}"
        hashed = hashlib.sha256(text.encode()).hexdigest()
        return IdempotencyRequest(principal=self.who.name, key=self.key, request_hash=hashed)


TheSubmission = Annotated[Submission, Depends()]


def events(
    door: Door, kind: JobKind, job_id: str, *, request: Request, after: int, last_event_id: str | None
) -> EventList | Response:
    """A page of events, or the stream of them, as the Accept header says."""
    after = after_from(last_event_id, after)
    ended = door.job(kind, job_id).state.is_final
    found = door.events(kind, job_id, after=after, limit=MAX_EVENTS)
    if EVENT_STREAM not in request.headers.get("accept", ""):
        items = [event_resource(event) for event in found]
        return EventList(items=items, next_after=items[-1].id if items else after)
    if ended and not found and last_event_id:
        return Response(status_code=204)  # tells a browser's EventSource to stop reconnecting
    source = EventSource(
        read=lambda seen, limit: door.events(kind, job_id, after=seen, limit=limit),
        is_final=lambda: door.job(kind, job_id).state.is_final,
    )
    return stream(source, after=after)


EVENT_RESPONSES: Responses = {
    200: {
        "description": f"JSON; or, with Accept: {EVENT_STREAM}, a stream that ends after the job's last event",
        "content": {
            EVENT_STREAM: {"schema": {"type": "string"}, "example": "id: 17\nevent: best.improved\ndata: {}\n\n"}
        },
    },
    204: {"description": "the job has ended and nothing follows Last-Event-ID"},
    **problems(404),
}
