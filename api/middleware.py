"""What every request passes: an id, a limit on the body, and a problem document for whatever breaks.

Plain ASGI classes: Starlette's BaseHTTPMiddleware buffers and would hold event streams back.
"""

import logging
import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.dashboard import is_dashboard
from api.errors import MalformedRequest
from api.handlers import response_of
from api.problems import refusal_of

logger = logging.getLogger("ropewalk.api")

REQUEST_ID_HEADER = "X-Request-ID"
MAX_BODY_BYTES = 8 * 1024 * 1024  # a factor file of a 128k-pair model is far below
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
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        try:
            if b"%00" in scope.get("raw_path", b"") + scope["query_string"]:  # PostgreSQL's text cannot hold it
                raise MalformedRequest("an address must not contain NUL characters")
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            if started:
                raise
            await _tell(error, scope, receive, send_with_id, request_id)


async def _tell(error: Exception, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
    refusal = refusal_of(error)
    if refusal.code == "INTERNAL_ERROR":
        logger.error("request %s: %s %s", request_id, scope["method"], scope["path"], exc_info=error)
    response = response_of(refusal, instance=scope["path"], request_id=request_id)
    if refusal.code == "UNAUTHENTICATED":
        browser = is_dashboard(scope["path"])
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
