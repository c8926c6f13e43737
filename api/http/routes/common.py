"""What the three kinds of jobs share: acceptance, lists, actions and events."""

from typing import Any

from fastapi import Request, Response

from api.http.sse import EventSource, after_from, stream
from api.wire.jobs import EventList, EventResource, JobResource
from api.wire.problems import MEDIA_TYPE
from service.door import Door
from storage.kinds import KINDS
from storage.records import Created, JobKind

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


def accepted(created: Created, response: Response) -> JobResource:
    """The 202 of a creation, or of its replay."""
    job = created.job
    response.headers["Location"] = f"/v1/{KINDS[job.kind].collection}/{job.id}"
    response.headers["Retry-After"] = str(POLL_AFTER_SECONDS)
    if created.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return JobResource.of(job)


def events(
    door: Door, kind: JobKind, job_id: str, *, request: Request, after: int, last_event_id: str | None
) -> EventList | Response:
    """A page of events, or the stream of them, as the Accept header says."""
    after = after_from(last_event_id, after)
    ended = door.job(kind, job_id).state.is_final
    found = door.events(kind, job_id, after=after, limit=MAX_EVENTS)
    if EVENT_STREAM not in request.headers.get("accept", ""):
        items = [EventResource.of(event) for event in found]
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
