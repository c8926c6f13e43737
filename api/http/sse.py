"""Server-Sent Events: a job's history as a stream that can be resumed, and that ends when the job does.

The rows are the truth: the stream reads `events(after=...)` again and again, so a client that reconnects with
`Last-Event-ID` misses nothing. Between reads it sleeps without holding a thread, so many streams do not starve the
thread pool that the other routes run in.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import anyio
from anyio import CapacityLimiter, to_thread
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from api.errors import MalformedRequest
from api.wire.jobs import event_resource
from storage.errors import DatabaseUnreachable, JobNotFound
from storage.records import Event

KEEP_ALIVE_SECONDS = 15
MAX_DIGITS = 19  # a number of fewer digits fits the column
SHORTEST_POLL_SECONDS = 0.2
LONGEST_POLL_SECONDS = 1.0
RECONNECT_MILLISECONDS = 1000
BATCH = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class EventSource:
    """One job's events, as the service answers them; both calls block."""

    read: Callable[[int, int], tuple[Event, ...]]
    """(after, limit) -> events, oldest first."""
    is_final: Callable[[], bool]
    """Whether the job has ended: no event follows those already stored."""


def after_from(last_event_id: str | None, after: int) -> int:
    """Where to continue: the Last-Event-ID header of a client that reconnects wins over the query.

    Raises:
        MalformedRequest: the header is not an event id.
    """
    if last_event_id is None or last_event_id == "":
        return after
    is_number = last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < MAX_DIGITS
    if not is_number:
        raise MalformedRequest(f"Last-Event-ID must be an event's id, but got {last_event_id[:100]!r}")
    return int(last_event_id)


def stream(source: EventSource, *, after: int) -> Response:
    """The stream of the events after `after`."""
    return EventSourceResponse(_events(source, after), ping=KEEP_ALIVE_SECONDS, sep="\n")


async def _events(source: EventSource, after: int) -> AsyncIterator[ServerSentEvent]:
    limiter = CapacityLimiter(1)  # a thread of its own, never one of the routes' pool
    pause = SHORTEST_POLL_SECONDS
    while True:
        try:
            # Asked before reading: a job that is final now has all its events stored already.
            ended = await to_thread.run_sync(source.is_final, limiter=limiter)
            events = await to_thread.run_sync(source.read, after, BATCH, limiter=limiter)
        except DatabaseUnreachable:
            return  # the client reconnects with Last-Event-ID, and gets 503 until the database is back
        except JobNotFound:
            return  # it was deleted, which the client is told when it reconnects
        for event in events:
            after = event.id
            yield _message(event)
        if events:
            pause = SHORTEST_POLL_SECONDS
            continue
        if ended:
            return
        await anyio.sleep(pause)
        pause = min(LONGEST_POLL_SECONDS, pause * 1.5)


def _message(event: Event) -> ServerSentEvent:
    data = event_resource(event).model_dump_json()
    return ServerSentEvent(id=str(event.id), event=event.type, data=data, retry=RECONNECT_MILLISECONDS)
