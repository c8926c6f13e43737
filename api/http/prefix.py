"""Paths under which a proxy shows this server: /team/ropewalk/v1/searches is /v1/searches here.

Whether the proxy strips the prefix or passes it on, afterwards `path` has it and `root_path` says what it is, as ASGI
has it; what decides by the path decides by :func:`route_path`.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.settings import is_prefix

HEADER = "X-Forwarded-Prefix"


def route_path(scope: Scope) -> str:
    """The path as our routes have it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


class PrefixMiddleware:
    """Sets `root_path` to the configured prefix, or else to the one that the proxy names."""

    def __init__(self, app: ASGIApp, configured: str | None = None) -> None:
        self._app = app
        self._configured = configured

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            told = Headers(scope=scope).get(HEADER, "").rstrip("/")
            prefix = self._configured or (told if is_prefix(told) else "")
            if prefix:
                scope = _under(prefix, scope)
        await self._app(scope, receive, send)


def _under(prefix: str, scope: Scope) -> Scope:
    path: str = scope["path"]
    passed_on = path == prefix or path.startswith(f"{prefix}/")
    return {**scope, "root_path": prefix, "path": path if passed_on else prefix + path}
