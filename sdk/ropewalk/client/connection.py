"""A server over HTTP, for programs without an event loop and for those with one: both send the same calls."""

import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from httpx_sse import aconnect_sse, connect_sse

from ropewalk.client.answers import NO_ANSWER, STREAM_TIMEOUT, TIMEOUT, Answers
from ropewalk.client.calls import Call, T, file_path, job_path
from ropewalk.client.certificates import trusted
from ropewalk.client.landing import landing
from ropewalk.client.proxies import direct, usable_proxies
from ropewalk.wire.files import FileResource
from ropewalk.wire.jobs import EventResource


class Server:
    """What both connections know of their server."""

    def __init__(self, url: str | None, key: str | None) -> None:
        self._answers = Answers(url, key)

    @property
    def url(self) -> str:
        """Of the server, without user and password."""
        return self._answers.url

    @property
    def server_version(self) -> str | None:
        """Of the last answer; None before the first, and where there is no Ropewalk server."""
        return self._answers.version

    def _http_settings(self, verify: ssl.SSLContext | bool) -> dict[str, Any]:
        return {
            "base_url": self._answers.address,
            "headers": self._answers.headers,
            "timeout": TIMEOUT,
            "verify": trusted() if verify is True else verify,
            "mounts": direct(self._answers.address),
        }

    @staticmethod
    def _stream_settings(job_id: str, after: int) -> dict[str, Any]:
        headers = {"Last-Event-ID": str(after)} if after else {}
        return {"method": "GET", "url": f"{job_path(job_id)}/events", "headers": headers, "timeout": STREAM_TIMEOUT}


class Connection(Server):
    """A context manager. Not for use from several threads at once."""

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`url`: default ROPEWALK_URL, else http://127.0.0.1:8000; `key`: an API key, default ROPEWALK_API_KEY;
        `verify`: the certificates that are trusted, as httpx takes them.

        Raises:
            BadInput: `url` is no URL of a server.
        """
        super().__init__(url, key)
        with usable_proxies():
            self._http = httpx.Client(
                **self._http_settings(verify), transport=transport, event_hooks={"response": [self._answers.note]}
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _do(self, call: Call[T]) -> T:
        try:
            response = self._http.request(**call.as_sent)
        except NO_ANSWER as error:
            raise self._answers.failure(error) from error
        return self._answers.value(call, response)

    def _download(self, job_id: str, file: FileResource, directory: Path) -> Path:
        try:
            with (
                landing(directory, file) as (path, write),
                self._http.stream("GET", file_path(job_id, file.name), timeout=STREAM_TIMEOUT) as response,
            ):
                if response.is_error:
                    response.read()
                    raise self._answers.refusal(response)
                for chunk in response.iter_bytes():
                    write(chunk)
            return path
        except NO_ANSWER as error:
            raise self._answers.failure(error) from error

    def _stream(self, job_id: str, after: int) -> Iterator[EventResource]:
        with connect_sse(self._http, **self._stream_settings(job_id, after)) as source:
            if source.response.is_error:
                source.response.read()
                raise self._answers.refusal(source.response)
            if source.response.status_code == 204:
                return
            for message in source.iter_sse():
                if message.data:
                    yield self._answers.event(message.data)


class AsyncConnection(Server):
    """An asynchronous context manager."""

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`url`: default ROPEWALK_URL, else http://127.0.0.1:8000; `key`: an API key, default ROPEWALK_API_KEY;
        `verify`: the certificates that are trusted, as httpx takes them.

        Raises:
            BadInput: `url` is no URL of a server.
        """
        super().__init__(url, key)
        with usable_proxies():
            self._http = httpx.AsyncClient(
                **self._http_settings(verify), transport=transport, event_hooks={"response": [self._note]}
            )

    async def _note(self, response: httpx.Response) -> None:
        self._answers.note(response)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _do(self, call: Call[T]) -> T:
        try:
            response = await self._http.request(**call.as_sent)
        except NO_ANSWER as error:
            raise self._answers.failure(error) from error
        return self._answers.value(call, response)

    async def _download(self, job_id: str, file: FileResource, directory: Path) -> Path:
        try:
            with landing(directory, file) as (path, write):
                address = file_path(job_id, file.name)
                async with self._http.stream("GET", address, timeout=STREAM_TIMEOUT) as response:
                    if response.is_error:
                        await response.aread()
                        raise self._answers.refusal(response)
                    async for chunk in response.aiter_bytes():
                        write(chunk)
            return path
        except NO_ANSWER as error:
            raise self._answers.failure(error) from error

    async def _stream(self, job_id: str, after: int) -> AsyncIterator[EventResource]:
        async with aconnect_sse(self._http, **self._stream_settings(job_id, after)) as source:
            if source.response.is_error:
                await source.response.aread()
                raise self._answers.refusal(source.response)
            if source.response.status_code == 204:
                return
            async for message in source.aiter_sse():
                if message.data:
                    yield self._answers.event(message.data)
