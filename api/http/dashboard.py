"""The Optuna dashboard on our port, read-only.

Its pages ask for fixed paths (`/dashboard`, `/api`, `/static`, `/csv`), so it takes these paths of the root, behind
every other route, and no others. It has no notion of users: whoever reaches it could rename, delete and tell; therefore
nothing but GET and HEAD passes, whatever the key's scope, and buttons that would only be refused are not shown.
"""

import importlib
import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from a2wsgi import WSGIMiddleware
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders, URLPath
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Message, Receive, Scope, Send

from api.http.prefix import route_path

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

PREFIXES = ("/dashboard/", "/api/", "/static/", "/csv/")
METHODS = ("GET", "HEAD")
_MOVED_TYPES = ("text/html", "text/javascript", "application/javascript")
_MOVED_PATHS = ((b'url_prefix:"', b"/dashboard"), (b"`", b"/csv/"))  # of its router, and of a link that is no fetch
_FETCH = b"{const f=window.fetch;window.fetch=(u,...r)=>f(typeof u==='string'&&u.startsWith('/')?'PREFIX'+u:u,...r);}\n"
_WRITING = (  # what its buttons would do is refused; the icons are told apart by names of MUI's
    b"<style>"
    b'button[aria-label="rename study"],button[aria-label="delete study"],'
    b'button:has([data-testid="AddBoxIcon"]),button:has([data-testid="EditIcon"]),button:has([data-testid="DeleteIcon"])'
    b"{display:none!important}</style>"
)
_IMPORTANCES = re.compile(r"/api/studies/(?P<study>[0-9]{1,9})/param_importances")
WORKERS = 4  # threads: the dashboard's pages poll every few seconds, its answers come from a cache


class DashboardRoute(BaseRoute):
    """The last route. The real dashboard is built on the first request, so the server starts without a database."""

    def __init__(self, open_storage: "Callable[[], BaseStorage]") -> None:
        self._open_storage = open_storage
        self._lock = threading.Lock()
        self._built: WSGIMiddleware | None = None

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Every dashboard path, whatever the method: `handle` refuses the writing ones."""
        taken = scope["type"] == "http" and is_dashboard(route_path(scope))
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
        prefix = scope.get("root_path", "")
        if prefix or route_path(scope).startswith("/dashboard"):
            scope, send = _not_compressed(scope), _Moved(prefix, send)
        await dashboard(scope, receive, send)  # type: ignore[arg-type]

    def _build(self) -> WSGIMiddleware:
        with self._lock:
            if self._built is None:
                import optuna_dashboard  # takes a second: see `load_dashboard`

                storage = self._open_storage()
                app = _WithoutParameters(optuna_dashboard.wsgi(storage), storage)
                self._built = WSGIMiddleware(app, workers=WORKERS)
            return self._built


class _WithoutParameters:
    """Of a study no trial of which has parameters, as while its baselines are scored, the dashboard would answer 500
    when it is asked for their importances: it divides by their number."""

    def __init__(self, app: Any, storage: "BaseStorage") -> None:
        self._app, self._storage = app, storage

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """A WSGI application."""
        asked = _IMPORTANCES.fullmatch(environ["PATH_INFO"])
        if asked is None or self._has_parameters(int(asked["study"])):
            return self._app(environ, start_response)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"param_importances": [[]]}']

    def _has_parameters(self, study_id: int) -> bool:
        try:
            trials = self._storage.get_all_trials(study_id, deepcopy=False)
        except KeyError:
            return True  # the dashboard says that there is no such study
        return any(trial.params for trial in trials if trial.state.is_finished() and trial.state.name != "FAIL")


class _Moved:
    """Sends the dashboard's page and its script with `prefix` before the paths that they ask for, and the page without
    the buttons that change something."""

    def __init__(self, prefix: str, send: Send) -> None:
        self._prefix = prefix.encode()
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        """Hold a page or a script back until it is whole; all else passes."""
        if message["type"] == "http.response.start":
            if Headers(raw=message["headers"]).get("content-type", "").partition(";")[0] in _MOVED_TYPES:
                self._start = message
                return
        elif self._start is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._send_moved(self._start)
            return
        await self._send(message)

    async def _send_moved(self, start: Message) -> None:
        headers = MutableHeaders(raw=list(start["headers"]))
        body = self._body
        if headers["content-type"].startswith("text/html"):
            icon = b'<link rel="icon" href="' + self._prefix + b'/favicon.ico"></head>'
            body = body.replace(b'src="/static/', b'src="' + self._prefix + b"/static/")
            body = body.replace(b"</head>", _WRITING + icon, 1)
        elif body:
            for before, path in _MOVED_PATHS:
                body = body.replace(before + path, before + self._prefix + path)
            body = _FETCH.replace(b"PREFIX", self._prefix) + body
        headers["content-length"] = str(len(body))
        await self._send({**start, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": body})


def _not_compressed(scope: Scope) -> Scope:
    headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
    return {**scope, "headers": [*headers, (b"accept-encoding", b"identity")]}


def load_dashboard() -> None:
    """Import the dashboard beside the server's start, so that neither the start nor the first page waits for it."""
    threading.Thread(target=importlib.import_module, args=("optuna_dashboard",), name="load dashboard").start()


def is_dashboard(path: str) -> bool:
    """Whether the Optuna dashboard answers this path."""
    return path in ("/dashboard", "/favicon.ico") or path.startswith(PREFIXES)
