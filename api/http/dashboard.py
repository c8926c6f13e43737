"""The Optuna dashboard on our port, read-only.

Its pages ask for fixed paths (`/dashboard`, `/api`, `/static`), so it takes these paths of the root, behind every other
route, and no others. It has no notion of users: whoever reaches it could rename, delete and tell; therefore
nothing but GET and HEAD passes, whatever the key's scope.
"""

import importlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from a2wsgi import WSGIMiddleware
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import URLPath
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

PREFIXES = ("/dashboard/", "/api/", "/static/")
METHODS = ("GET", "HEAD")
WORKERS = 4  # threads: the dashboard's pages poll every few seconds, its answers come from a cache


class DashboardRoute(BaseRoute):
    """The last route. The real dashboard is built on the first request, so the server starts without a database."""

    def __init__(self, open_storage: "Callable[[], BaseStorage]") -> None:
        self._open_storage = open_storage
        self._lock = threading.Lock()
        self._built: WSGIMiddleware | None = None

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Every dashboard path, whatever the method: `handle` refuses the writing ones."""
        taken = scope["type"] == "http" and is_dashboard(scope["path"])
        return (Match.FULL if taken else Match.NONE), {}

    def url_path_for(self, name: str, /, **path_params: object) -> URLPath:
        """The dashboard's addresses have no names."""
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a reading request on.

        Raises:
            HTTPException: 405 for any other method.
        """
        if scope["method"] not in METHODS:
            raise HTTPException(405, headers={"Allow": ", ".join(METHODS)})
        dashboard = await run_in_threadpool(self._build)
        await dashboard(scope, receive, send)  # type: ignore[arg-type]

    def _build(self) -> WSGIMiddleware:
        with self._lock:
            if self._built is None:
                import optuna_dashboard  # takes a second: see `load_dashboard`

                self._built = WSGIMiddleware(optuna_dashboard.wsgi(self._open_storage()), workers=WORKERS)
            return self._built


def load_dashboard() -> None:
    """Import the dashboard beside the server's start, so that neither the start nor the first page waits for it."""
    threading.Thread(target=importlib.import_module, args=("optuna_dashboard",), name="load dashboard").start()


def is_dashboard(path: str) -> bool:
    """Whether the Optuna dashboard answers this path."""
    return path in ("/dashboard", "/favicon.ico") or path.startswith(PREFIXES)
