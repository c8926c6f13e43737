"""JSON of strangers, as the routes read it: what Python's parser lets pass or breaks on is refused like bad syntax."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response


def parse(text: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        json.JSONDecodeError: no JSON, a key twice in one object, nesting or a number beyond what Python reads.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise json.JSONDecodeError("it is nested too deeply", "", 0) from error
    except ValueError as error:  # a number of thousands of digits, bytes that are no text
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise json.JSONDecodeError(f"an object must have each key once, but got {twice!r} twice", "", 0)
    return found
