"""Who may do what: bearer keys with scopes, or the token in the server's home.

    bind address   keys exist   then (a token of ROPEWALK_OIDC_ISSUER is a key, and makes "yes" of "no")
    loopback       no           every request needs the token, and a Host header that is a loopback name
    loopback       yes          every request needs a key, or the token
    other          yes          every request needs a key
    other          no           the server refuses to start

Who sends the token is the operator: specs may name any file, and requests are not counted. An address or a header that
is missing would prove nothing: behind a proxy everybody comes from loopback.

`/healthz`, `/readyz`, `/docs` and the OpenAPI document are open always. A browser sends the key as the password of
HTTP Basic; everything else sends `Authorization: Bearer rw_...`. An address with `?token=...` makes a browser keep the
token as a cookie.
"""

import hashlib
import hmac
import threading
import time
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import InsufficientScope, Unauthenticated, UnsafeBind
from api.http.credentials import bearer_token, check_host, check_origin, cookie_name, kept_as_cookie, token_in_address
from api.http.oidc import Issuer, looks_like_one
from api.http.prefix import route_path
from api.http.scopes import ANYONE_LOCAL, FOR_ALL, JOB_PATH, NOBODY, Principal, scope_for
from api.rate_limits import RateLimits
from api.settings import is_loopback
from storage.api_keys import ApiKeys
from storage.errors import JobNotFound
from storage.records import ApiKey

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/docs", "/docs/oauth2-redirect", "/openapi.json"})
DOCS_ASSETS = "/docs-assets"  # scripts and styles of /docs
NEEDS_KEY = "this server needs an API key: send Authorization: Bearer rw_..., which clients take from ROPEWALK_API_KEY"
NEEDS_TOKEN = (
    "this server needs its token, which clients on its machine read by themselves from the file `token` in its "
    "ROPEWALK_HOME: set ROPEWALK_HOME to the server's, or ROPEWALK_API_KEY to the token"
)
VERIFIED_SECONDS = 30.0  # a revoked key stops working within this time; verifying costs a scrypt run
KEYS_EXIST_SECONDS = 5.0  # the first key locks a running loopback server within this time
MAX_REMEMBERED = 1024
VERIFIED_AT_ONCE = 4  # scrypt takes 16 MiB and a core


def check_bind(host: str, keys: ApiKeys, *, has_issuer: bool = False) -> None:
    """Refuse to bind an address that other machines reach while no key exists, and nobody issues tokens.

    Raises:
        UnsafeBind: says the rule and how to make a key.
    """
    if not is_loopback(host) and not has_issuer and not _active(keys):
        raise UnsafeBind(
            f"without an API key the server binds loopback addresses only, but got host={host}; "
            "make a key first: ropewalk keys create NAME"
        )


def _active(keys: ApiKeys) -> tuple[ApiKey, ...]:
    return tuple(key for key in keys.list() if key.revoked_at is None)


class Gatekeeper:
    """Decides on every request. Thread-safe; the methods block on the database."""

    def __init__(
        self,
        keys: ApiKeys,
        *,
        host: str,
        limits: RateLimits,
        token: str | None = None,
        issuer: Issuer | None = None,
        owner_of: Callable[[str], str | None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`token`: the home's; None, and on an address that other machines reach, only keys count.
        `owner_of`: whose the job of an id is, as a principal names its owner."""
        self._keys = keys
        self._issuer = issuer
        self._owner_of = owner_of
        self._limits = limits
        self._verifying = threading.BoundedSemaphore(VERIFIED_AT_ONCE)
        self._loopback = is_loopback(host)
        self._token = token if self._loopback else None
        self._clock = clock
        self._lock = threading.Lock()
        self._verified: dict[bytes, tuple[Principal, float]] = {}
        self._keys_exist: tuple[bool, float] = (False, float("-inf"))

    def needs_key(self) -> bool:
        """Whether requests need a key right now."""
        if not self._loopback or self._issuer is not None:
            return True
        exist, until = self._keys_exist
        if self._clock() >= until:
            exist = bool(_active(self._keys))
            self._keys_exist = (exist, self._clock() + KEYS_EXIST_SECONDS)
        return exist

    def _check(self, principal: Principal, method: str, path: str) -> None:
        """Return when the principal's scopes are enough for a request.

        Raises:
            InsufficientScope.
            JobNotFound: it is of a job of somebody else, of which it is not told that there is one.
        """
        needed = scope_for(method, path)
        if principal.may(needed):
            return
        job = JOB_PATH.match(path)
        if needed == "read" and principal.may("submit") and job is not None and self._is_own(principal, job["id"]):
            return  # what may be submitted may be followed, too
        if principal.may("own") and needed in ("read", "submit"):
            if job is not None and not self._is_own(principal, job["id"]):
                raise JobNotFound(f"a job must exist and be your own, but there is no {job['id']!r}")
            if job is not None or FOR_ALL.fullmatch(path):
                return
        raise InsufficientScope(
            f"{method} needs a key with scope {needed}, "
            f"but {principal.name} has {', '.join(sorted(principal.scopes)) or 'none'}"
        )

    def _is_own(self, principal: Principal, job_id: str) -> bool:
        return self._owner_of(job_id) == principal.owner

    def is_operator(self, token: str | None) -> bool:
        """Whether it is the home's token."""
        mine = self._token
        return token is not None and mine is not None and hmac.compare_digest(token.encode(), mine.encode())

    def _is_by_operator(self, headers: Headers) -> bool:
        if self._token is None:
            return False
        kept = cookie_parser(headers.get("cookie", "")).get(cookie_name(self._token))
        return self.is_operator(bearer_token(headers.get("authorization", "")) or kept)

    def admit(self, method: str, path: str, headers: Headers, *, address: str) -> Principal:
        """The principal of a request from `address` that may go on.

        Raises:
            Unauthenticated, InsufficientScope, JobNotFound, HostNotAllowed, CrossOriginRequest, TooManyRequests: why it
                may not.
        """
        check_origin(method, headers)
        if self._is_open(path, headers):
            # Without asking the database, which may be what is being checked.
            if not self._loopback:
                self._limits.count_request(f"address {address}")
            return NOBODY
        if self._is_by_operator(headers):
            if not self.needs_key():
                check_host(headers)
            return ANYONE_LOCAL
        principal = self._identify(headers, address)
        self._limits.count_request(principal.name)
        self._check(principal, method, path)
        return principal

    def _is_open(self, path: str, headers: Headers) -> bool:
        """Whether anybody is answered: at `/`, which shows jobs to who may see them, whoever shows nothing."""
        if path == "/":
            return "authorization" not in headers and not self._is_by_operator(headers)
        return path in OPEN_PATHS or path.startswith(f"{DOCS_ASSETS}/")

    def _identify(self, headers: Headers, address: str) -> Principal:
        token = bearer_token(headers.get("authorization", ""))
        if token is None:
            self._limits.count_request(f"address {address}")
            raise Unauthenticated(self._needs())
        digest = hashlib.sha256(token.encode()).digest()
        remembered = self._verified.get(digest)
        if remembered is not None and self._clock() < remembered[1]:
            return remembered[0]
        principal, good_for = self._verify(token, address)
        with self._lock:
            if len(self._verified) >= MAX_REMEMBERED:
                self._verified.clear()
            self._verified[digest] = (principal, self._clock() + min(good_for, VERIFIED_SECONDS))
        return principal

    def _needs(self) -> str:
        if not self.needs_key():
            return NEEDS_TOKEN
        return NEEDS_KEY if self._issuer is None else f"{NEEDS_KEY}; a token of {self._issuer.url} is as good"

    def _verify(self, token: str, address: str) -> tuple[Principal, float]:
        """Whose it is, and for how many seconds it is at least."""
        self._limits.check_failures(address)
        if self._issuer is not None and looks_like_one(token):
            try:
                bearer = self._issuer.verify(token)
            except Unauthenticated:
                self._limits.count_failure(address)
                raise
            left = bearer.expires_at - time.time()
            return Principal(name=bearer.name, scopes=bearer.scopes, owner=bearer.owner), left
        with self._verifying:
            key = self._keys.verify(token)
        if key is None:
            self._limits.count_failure(address)
            raise Unauthenticated("the API key is unknown or was revoked; clients take it from ROPEWALK_API_KEY")
        return Principal(name=f"key:{key.id}", scopes=frozenset(key.scopes), owner=key.owner), VERIFIED_SECONDS


class AccessMiddleware:
    """Lets a request in with `state.principal` set, or raises why not."""

    def __init__(self, app: ASGIApp, gatekeeper: Gatekeeper) -> None:
        self._app = app
        self._gatekeeper = gatekeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers, address = Headers(scope=scope), (scope.get("client") or ("unknown",))[0]
            token = token_in_address(scope)
            if token is not None and self._gatekeeper.is_operator(token):
                await kept_as_cookie(scope, token)(scope, receive, send)
                return
            principal = await run_in_threadpool(
                self._gatekeeper.admit, scope["method"], route_path(scope), headers, address=address
            )
            scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)
