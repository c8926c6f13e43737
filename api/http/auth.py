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

import base64
import binascii
import hashlib
import hmac
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import CrossOriginRequest, HostNotAllowed, InsufficientScope, Unauthenticated, UnsafeBind
from api.http.oidc import Issuer, looks_like_one
from api.http.prefix import route_path
from api.rate_limits import RateLimits
from api.settings import is_loopback
from ropewalk.wire.kinds import KINDS
from storage.api_keys import ApiKeys
from storage.errors import JobNotFound
from storage.records import SCOPES, ApiKey
from storage.records import Scope as KeyScope

READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/docs", "/docs/oauth2-redirect", "/openapi.json"})
DOCS_ASSETS = "/docs-assets"  # scripts and styles of /docs
WEBHOOKS, AUDIT = "/v1/webhooks", "/v1/audit"
NEEDS_KEY = "this server needs an API key: send Authorization: Bearer rw_..., which clients take from ROPEWALK_API_KEY"
NEEDS_TOKEN = (
    "this server needs its token, which clients on its machine read by themselves from the file `token` in its "
    "ROPEWALK_HOME: set ROPEWALK_HOME to the server's, or ROPEWALK_API_KEY to the token"
)
_COLLECTION = f"/v1/(?:{'|'.join(row.collection for row in KINDS.values())})"
_JOB_PATH = re.compile(rf"(?:{_COLLECTION}|/jobs)/(?P<id>[^/:]+)(?:[/:]|$)")
_FOR_ALL = re.compile(rf"/|{_COLLECTION}(?::plan)?|/v1/models:inspect|{WEBHOOKS}(?:/.*)?")  # of nobody's job alone
FORWARDED = ("forwarded", "x-forwarded-for")  # a proxy's, behind which anybody may be
VERIFIED_SECONDS = 30.0  # a revoked key stops working within this time; verifying costs a scrypt run
KEYS_EXIST_SECONDS = 5.0  # the first key locks a running loopback server within this time
MAX_REMEMBERED = 1024
VERIFIED_AT_ONCE = 4  # scrypt takes 16 MiB and a core


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who sent a request. Idempotency keys belong to a principal, jobs to its owner."""

    name: str
    scopes: frozenset[KeyScope]
    owner: str

    def may(self, scope: KeyScope) -> bool:
        """Whether this principal has `scope`; admin has every scope."""
        return scope in self.scopes or "admin" in self.scopes

    @property
    def sees(self) -> str | None:
        """Whose jobs it sees in lists: its own, or None: all."""
        return None if self.may("read") else self.owner

    @property
    def names(self) -> str | None:
        """Whose jobs its specs may name: its own, or None: all."""
        return None if self.may("read") or self.may("submit") else self.owner


NOBODY = Principal(name="nobody", scopes=frozenset(), owner="nobody")
ANYONE_LOCAL = Principal(name="local", scopes=frozenset(SCOPES), owner="local")


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
        job = _JOB_PATH.match(path)
        if needed == "read" and principal.may("submit") and job is not None and self._is_own(principal, job["id"]):
            return  # what may be submitted may be followed, too
        if principal.may("own") and needed in ("read", "submit"):
            if job is not None and not self._is_own(principal, job["id"]):
                raise JobNotFound(f"a job must exist and be your own, but there is no {job['id']!r}")
            if job is not None or _FOR_ALL.fullmatch(path):
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
        _check_origin(method, headers)
        if self._is_open(path, headers):
            # Without asking the database, which may be what is being checked.
            if not self._loopback:
                self._limits.count_request(f"address {address}")
            return NOBODY
        if self._is_by_operator(headers):
            if not self.needs_key():
                _check_host(headers)
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


def scope_for(method: str, path: str) -> KeyScope:
    """What a request needs: what is deleted nobody brings back. Webhooks are those of who submits."""
    if path == AUDIT:
        return "admin"
    if path == WEBHOOKS or path.startswith(f"{WEBHOOKS}/"):
        return "submit"
    if method in READING_METHODS:
        return "read"
    return "admin" if method == "DELETE" else "submit"


def bearer_token(authorization: str) -> str | None:
    """The key in an Authorization header: the bearer token, or the password of HTTP Basic."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip() or None
    if scheme.lower() == "basic":
        try:
            _, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return password or None
    return None


def cookie_name(token: str) -> str:
    """Of its own for each server of this machine: a browser keeps cookies by the host alone, whatever the port."""
    return f"ropewalk_{hashlib.sha256(token.encode()).hexdigest()[:8]}"


def _check_host(headers: Headers) -> None:
    host = headers.get("host", "")
    name = urlsplit(f"//{host}").hostname or ""
    if not is_loopback(name):
        raise HostNotAllowed(
            f"a server without API keys answers to loopback names only, but got Host: {host or '(none)'}"
        )
    if found := [name for name in FORWARDED if name in headers]:
        raise HostNotAllowed(f"a server without API keys answers no proxy, but got {found[0]}; make a key first")


def _check_origin(method: str, headers: Headers) -> None:
    origin = headers.get("origin")
    if method in READING_METHODS or origin is None:
        return
    if urlsplit(origin).netloc != headers.get("host"):
        raise CrossOriginRequest(f"a page of {origin} may not change anything here")


class AccessMiddleware:
    """Lets a request in with `state.principal` set, or raises why not."""

    def __init__(self, app: ASGIApp, gatekeeper: Gatekeeper) -> None:
        self._app = app
        self._gatekeeper = gatekeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers, address = Headers(scope=scope), (scope.get("client") or ("unknown",))[0]
            token = _token_in_address(scope)
            if token is not None and self._gatekeeper.is_operator(token):
                await _kept_as_cookie(scope, token)(scope, receive, send)
                return
            principal = await run_in_threadpool(
                self._gatekeeper.admit, scope["method"], route_path(scope), headers, address=address
            )
            scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)


def _token_in_address(scope: Scope) -> str | None:
    query = QueryParams(scope["query_string"])
    return query.get("token") if scope["method"] == "GET" else None


def _kept_as_cookie(scope: Scope, token: str) -> RedirectResponse:
    """To the same address without the token, which stays neither in the history nor in a Referer header."""
    query = QueryParams([pair for pair in QueryParams(scope["query_string"]).multi_items() if pair[0] != "token"])
    response = RedirectResponse(scope["path"] + (f"?{query}" if query else ""), status_code=303)
    response.set_cookie(cookie_name(token), token, httponly=True, samesite="lax")
    return response
