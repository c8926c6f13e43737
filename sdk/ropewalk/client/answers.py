"""What the two clients know of their server, and what its answers and its silence mean. Nothing here does I/O."""

import os
import time

import httpx
from httpx_sse import SSEError
from pydantic import ValidationError

from ropewalk.client.calls import Call, T
from ropewalk.client.errors import ApiError, BadInput, IncompatibleServer, ServerUnreachable
from ropewalk.client.token import local_token
from ropewalk.errors import RopewalkError
from ropewalk.version import ROPEWALK_VERSION
from ropewalk.wire.jobs import EventResource
from ropewalk.wire.problems import VERSION_HEADER, problem_from_text

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
STREAM_TIMEOUT = httpx.Timeout(45.0, connect=5.0)  # three missed keep-alives
RECONNECT_SECONDS = 1.0
GIVE_UP_AFTER_SECONDS = 60.0
DEFAULT_URL = "http://127.0.0.1:8000"
# What a server says of something that it does not have, and that one of another version may have.
_UNKNOWN = {"NOT_FOUND", "METHOD_NOT_ALLOWED", "VALIDATION_FAILED", "INVALID_SPEC", "HTTP_ERROR"}


class Answers:
    """One server: its address, what is sent to it always, and what it has said of itself."""

    def __init__(self, url: str | None, key: str | None) -> None:
        """Without `url` or `key`, ROPEWALK_URL and ROPEWALK_API_KEY say them; without a key at all, the server's token
        is sent if it is on this machine (see `ropewalk.client.token`). `url` may hold a user and a password;
        messages name it without them.

        Raises:
            BadInput: `url` is no URL of a server.
        """
        self.address = _address(url or os.environ.get("ROPEWALK_URL") or DEFAULT_URL)
        self.url = str(self.address.copy_with(username=None, password=None)).rstrip("/")
        if key is None:
            key = os.environ.get("ROPEWALK_API_KEY") or local_token(self.url)
        self.headers = {"User-Agent": f"ropewalk/{ROPEWALK_VERSION}"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"
        self.was_answered = False
        self.version: str | None = None

    def note(self, response: httpx.Response) -> None:
        """Note that there is a server, and its version."""
        self.was_answered = True
        self.version = response.headers.get(VERSION_HEADER)

    def value(self, call: Call[T], response: httpx.Response) -> T:
        """What was asked for.

        Raises:
            ApiError: the server refused.
            IncompatibleServer: its answer is not one that this version knows.
        """
        if response.is_error:
            raise self.refusal(response)
        try:
            return call.read(response.content)
        except (ValueError, RopewalkError) as error:
            raise self.incompatible(error) from error

    def event(self, data: str) -> EventResource:
        """An event of a stream.

        Raises:
            IncompatibleServer: it is none that this version knows.
        """
        try:
            return EventResource.model_validate_json(data)
        except ValidationError as error:
            raise self.incompatible(error) from error

    def refusal(self, response: httpx.Response) -> ApiError:
        """The error of a response of status 400 or above, whose body has been read."""
        problem = problem_from_text(response.text)
        if problem is None:
            text = response.text.strip().splitlines()
            detail = text[0][:200] if text else response.reason_phrase
            return ApiError(response.status_code, "HTTP_ERROR", self._with_version(detail, "HTTP_ERROR"))
        detail = self._with_version(problem.detail, problem.code)
        return ApiError(response.status_code, problem.code, detail, tuple(problem.errors or ()))

    def _with_version(self, detail: str, code: str) -> str:
        if code not in _UNKNOWN or self.version in (None, ROPEWALK_VERSION):
            return detail
        return f"{detail} ({self._versions()})"

    def _versions(self) -> str:
        age = "newer" if _numbers(self.version or "") > _numbers(ROPEWALK_VERSION) else "older"
        return f"the server at {self.url} is Ropewalk {self.version}, {age} than this client, {ROPEWALK_VERSION}"

    def incompatible(self, error: Exception) -> IncompatibleServer:
        """For an answer that cannot be read."""
        what = str(error).splitlines()[0]
        if self.version is None:
            return IncompatibleServer(f"the URL must be a Ropewalk server's, but {self.url} answers otherwise: {what}")
        if self.version == ROPEWALK_VERSION:
            return IncompatibleServer(f"the server at {self.url} gave an answer that this client cannot read: {what}")
        return IncompatibleServer(
            f"{self._versions()}, which cannot read its answer: install ropewalk=={self.version} ({what})"
        )

    def failure(self, error: Exception) -> RopewalkError:
        """What it means that a request got no answer."""
        if isinstance(error, httpx.LocalProtocolError | UnicodeError):  # their texts quote the key
            return BadInput("keys and parameters must be text that HTTP can carry, but one of them is not")
        if isinstance(error, httpx.ReadTimeout):
            return ServerUnreachable(
                f"the server at {self.url} did not answer within {TIMEOUT.read:g} s; it may still do what was asked"
            )
        reason = f"{type(error).__name__}: {error}"
        return ServerUnreachable(f"no server answers at {self.url} ({reason}); start one with: ropewalk serve")


NO_ANSWER = (httpx.TransportError, UnicodeError)
#: What a lost connection raises, and what a server that is starting says.
PASSING = (httpx.TransportError, SSEError, ServerUnreachable, ApiError)


class Patience:
    """How long a server that has answered before is waited for."""

    def __init__(self, answers: Answers, seconds: float) -> None:
        self._answers, self._seconds = answers, seconds
        self._heard_at = time.monotonic()

    def reset(self) -> None:
        """The server is there."""
        self._heard_at = time.monotonic()

    def check(self, error: Exception) -> None:
        """Return when it is worth asking again, else raise what `error`, one of PASSING, means.

        Raises:
            ApiError: the server refuses, for good.
            ServerUnreachable: it has never answered, or not for too long.
        """
        is_over = time.monotonic() - self._heard_at > self._seconds
        if isinstance(error, ApiError):
            if error.status not in (429, 503) or is_over:
                raise error
        elif not self._answers.was_answered:
            raise error if isinstance(error, ServerUnreachable) else self._answers.failure(error) from error
        elif is_over:
            raise ServerUnreachable(f"the server at {self._answers.url} stopped answering: {error}") from error


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url.rstrip("/"))
        if not address.host.encode("idna"):  # as connecting will
            raise httpx.InvalidURL("no host")
    except (httpx.InvalidURL, UnicodeError):
        shown = "" if "@" in url else f", but got {url!r}"  # it may hold a password
        raise BadInput(f"the server's URL must be like {DEFAULT_URL}{shown}") from None
    return address


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
