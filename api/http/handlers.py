"""Every error of the application as a problem document: those of all rooms, FastAPI's own, and Starlette's."""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.errors import PROBLEM_KINDS
from api.http.fields import Expected, field_problems
from api.http.prefix import route_path
from api.wire.problems import MEDIA_TYPE, ROOM_ERRORS, Refusal, problem_of, refusal_of

logger = logging.getLogger("ropewalk.api")

_TOLD_ONCE = ("DATABASE_UNREACHABLE", "NOT_READY")  # a line for each outage, from storage, not for each request


def response_of(refusal: Refusal, *, instance: str, request_id: str | None) -> Response:
    """The response of one refusal, with Retry-After where trying again makes sense."""
    problem = problem_of(refusal, instance=instance, request_id=request_id)
    headers = dict(refusal.headers)
    retry = PROBLEM_KINDS[refusal.code].retry_after_seconds
    if retry is not None:
        headers.setdefault("Retry-After", str(retry))
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, status_code=problem.status, headers=headers, media_type=MEDIA_TYPE)


def install_handlers(app: FastAPI) -> None:
    """Make every refusal of this application a problem document."""
    for room in ROOM_ERRORS:
        app.add_exception_handler(room, _on_room_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


def request_id_of(request: Request) -> str | None:
    """The id that the request's middleware gave it."""
    value = request.scope.get("state", {}).get("request_id")
    return value if isinstance(value, str) else None


async def _on_room_error(request: Request, error: Exception) -> Response:
    path = request.url.path if request.method == "POST" else ""
    refusal = refusal_of(error, location="query" if request.method == "GET" else "body", path=path)
    if PROBLEM_KINDS[refusal.code].status >= HTTPStatus.INTERNAL_SERVER_ERROR and refusal.code not in _TOLD_ONCE:
        logger.warning("%s %s: %s: %s", request.method, request.url.path, refusal.code, error)
    return response_of(refusal, instance=request.url.path, request_id=request_id_of(request))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    refusal = _refusal_of_validation(error, request)
    return response_of(refusal, instance=request.url.path, request_id=request_id_of(request))


def _refusal_of_validation(error: RequestValidationError, request: Request) -> Refusal:
    found, content_type = error.errors(), request.headers.get("content-type", "")
    first = found[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "invalid JSON")
        return Refusal(code="MALFORMED_REQUEST", detail=f"The body is not JSON: {reason} (byte {first['loc'][-1]})")
    unread_body = first["loc"] == ("body",) and first["type"] in {"model_attributes_type", "dict_type"}
    if unread_body and "json" not in content_type:
        return Refusal(
            code="UNSUPPORTED_MEDIA_TYPE",
            detail=f"Content-Type must be application/json, but got {content_type or 'none'}",
        )
    fields = field_problems(found, error.body, expected=Expected.of(request.scope.get("route")))
    detail = "; ".join(f"{field.pointer or '/'}: {field.detail}" for field in fields[:3])
    return Refusal(code="VALIDATION_FAILED", detail=detail, errors=fields)


_HTTP_CODES = {
    HTTPStatus.NOT_FOUND: "NOT_FOUND",
    HTTPStatus.METHOD_NOT_ALLOWED: "METHOD_NOT_ALLOWED",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "UNSUPPORTED_MEDIA_TYPE",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "PAYLOAD_TOO_LARGE",
    HTTPStatus.BAD_REQUEST: "MALFORMED_REQUEST",
}


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(HTTPStatus(error.status_code), "HTTP_ERROR")
    detail = {
        "NOT_FOUND": f"There is nothing at {request.url.path}",
        "METHOD_NOT_ALLOWED": f"{request.method} is not allowed at {request.url.path}",
    }.get(code, str(error.detail))
    headers = {**(error.headers or {})}
    if code == "METHOD_NOT_ALLOWED" and (methods := _methods_of(request)):
        headers["Allow"] = ", ".join(methods)
    refusal = Refusal(code=code, detail=detail, status=error.status_code, headers=tuple(headers.items()))
    return response_of(refusal, instance=request.url.path, request_id=request_id_of(request))


def _methods_of(request: Request) -> list[str]:
    """What the path takes; Starlette names the methods of its first route alone."""
    routes = (route for route in request.app.routes if isinstance(route, APIRoute))
    return sorted(
        {method for route in routes if route.path_regex.match(route_path(request.scope)) for method in route.methods}
    )
