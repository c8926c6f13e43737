"""What every request passes: an id, a limit on the body, and a problem document for whatever breaks.

Plain ASGI classes: Starlette's BaseHTTPMiddleware buffers and would hold event streams back.
"""

import logging
import re
import secrets
import time
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import MalformedRequest
from api.http.dashboard import is_dashboard
from api.http.handlers import response_of
from api.http.prefix import route_path
from api.wire.problems import refusal_of
from ropewalk.version import ROPEWALK_VERSION
from ropewalk.wire.problems import VERSION_HEADER
from service.runtime.log_context import bound
from service.runtime.tracing import span

logger = logging.getLogger("ropewalk.api")
access = logging.getLogger("ropewalk.access")

REQUEST_ID_HEADER = "X-Request-ID"
MAX_BODY_BYTES = 8 * 1024 * 1024  # a factor file of a 128k-pair model is far below
_READING = ("GET", "HEAD", "OPTIONS")
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestContextMiddleware:
    """Outermost: gives the request its id and turns what nobody handled into a problem document."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = given if _ACCEPTED_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        with bound(request_id=request_id), span(f"{scope['method']} {scope['path']}"):
            await self._answer(scope, receive, send, request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        status: int | None = None
        began = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID_HEADER], headers[VERSION_HEADER] = request_id, ROPEWALK_VERSION
            await send(message)

        try:
            if b"%00" in scope.get("raw_path", b"") + scope["query_string"]:  # PostgreSQL's text cannot hold it
                raise MalformedRequest("an address must not contain NUL characters")
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            if status is not None:
                raise
            await _tell(error, scope, receive, send_with_id, request_id)
        finally:
            _log_access(scope, status, time.perf_counter() - began)


def _log_access(scope: Scope, status: int | None, seconds: float) -> None:
    """What changes something is worth a line; so is what went wrong here, but for an outage, which has its own. Readers
    ask every second or two."""
    broke = status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    is_told = scope["method"] not in _READING or (broke and status != HTTPStatus.SERVICE_UNAVAILABLE)
    level = logging.INFO if is_told else logging.DEBUG
    access.log(level, "%s %s: %s in %.0f ms", scope["method"], scope["path"], status, 1e3 * seconds)


async def _tell(error: Exception, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
    refusal = refusal_of(error)
    if refusal.code == "INTERNAL_ERROR":
        logger.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
    response = response_of(refusal, instance=scope["path"], request_id=request_id)
    if refusal.code == "UNAUTHENTICATED":
        browser = is_dashboard(route_path(scope))
        response.headers["WWW-Authenticate"] = 'Basic realm="ropewalk"' if browser else 'Bearer realm="ropewalk"'
    await response(scope, receive, send)


class BodyLimitMiddleware:
    """Refuses bodies over the limit, whether their length was announced or not."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                # An HTTPException, because FastAPI turns any other error while it reads the body into a 400.
                raise HTTPException(413, f"the body must be at most {self._max_bytes} bytes")
            return message

        await self._app(scope, limited_receive, send)
