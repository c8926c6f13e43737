"""Untrusted JSON, as the routes read it: what Python's parser lets pass or breaks on is rejected like bad syntax."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from ropewalk.reading.reader import strict_json


def parse(body: bytes) -> Any:
    """The value of a JSON text in UTF-8, -16 or -32, by :func:`ropewalk.reading.reader.strict_json`.

    Raises:
        json.JSONDecodeError: it is no such JSON, or no text.
    """
    try:
        return strict_json(body.decode(json.detect_encoding(body)))
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise json.JSONDecodeError(str(error).partition(";")[0], "", 0) from error


class StrictRoute(APIRoute):
    """A route that reads its body by :func:`parse`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI's."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        return parse(await self.body())
