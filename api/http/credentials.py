"""What a request brings to be let in: a key or a token, and where it comes from."""

import base64
import binascii
import hashlib
from urllib.parse import urlsplit

from starlette.datastructures import Headers, QueryParams
from starlette.responses import RedirectResponse
from starlette.types import Scope

from api.errors import CrossOriginRequest, HostNotAllowed
from api.http.scopes import READING_METHODS
from api.settings import is_loopback

FORWARDED = ("forwarded", "x-forwarded-for")  # a proxy's, behind which anybody may be


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


def token_in_address(scope: Scope) -> str | None:
    """That a browser was sent with."""
    query = QueryParams(scope["query_string"])
    return query.get("token") if scope["method"] == "GET" else None


def kept_as_cookie(scope: Scope, token: str) -> RedirectResponse:
    """To the same address without the token, which stays neither in the history nor in a Referer header."""
    query = QueryParams([pair for pair in QueryParams(scope["query_string"]).multi_items() if pair[0] != "token"])
    response = RedirectResponse(scope["path"] + (f"?{query}" if query else ""), status_code=303)
    response.set_cookie(cookie_name(token), token, httponly=True, samesite="lax")
    return response


def check_host(headers: Headers) -> None:
    """Raise HostNotAllowed for a request that a name of another machine, or a proxy, has led here."""
    host = headers.get("host", "")
    name = urlsplit(f"//{host}").hostname or ""
    if not is_loopback(name):
        raise HostNotAllowed(
            f"a server without API keys answers to loopback names only, but got Host: {host or '(none)'}"
        )
    if found := [name for name in FORWARDED if name in headers]:
        raise HostNotAllowed(f"a server without API keys answers no proxy, but got {found[0]}; make a key first")


def check_origin(method: str, headers: Headers) -> None:
    """Raise CrossOriginRequest for a change that a page of another server asks for."""
    origin = headers.get("origin")
    if method in READING_METHODS or origin is None:
        return
    if urlsplit(origin).netloc != headers.get("host"):
        raise CrossOriginRequest(f"a page of {origin} may not change anything here")
