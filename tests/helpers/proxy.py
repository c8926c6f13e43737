"""A TCP proxy before a PostgreSQL server that can do to connections what networks do: delay, swallow, cut."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

CHUNK = 65536  # bytes


class Proxy:
    """Listens on TCP and forwards to the Unix socket that a database URL names. Thread-safe; a context manager.

    `swallow` is the fault that keepalives do not find: the peer's kernel acknowledges everything, and nothing comes
    back. Connections that were made meanwhile are accepted and treated alike.
    """

    def __init__(self, url: str, *, host: str = "127.0.0.1") -> None:
        parsed = sa.make_url(url)
        self._target = Path(str(parsed.query["host"])) / f".s.PGSQL.{parsed.query['port']}"
        self._parsed = parsed
        self._host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._open: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.delay_seconds = 0.0  # of every chunk, each way
        self.connections = 0  # so far

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._server = self._await(asyncio.start_server(self._serve, self._host, 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._await(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """The database's URL, by way of here."""
        query = {key: value for key, value in self._parsed.query.items() if key not in ("host", "port")}
        through = self._parsed.set(host=self._host, port=self.port, query=query)
        return through.render_as_string(hide_password=False)

    @contextlib.contextmanager
    def swallow(self) -> Iterator[None]:
        """Let nothing through. Afterwards the connections of before are gone, as behind a firewall that forgot them."""
        self._loop.call_soon_threadsafe(self._flowing.clear)
        try:
            yield
        finally:
            self._await(self._cut())
            self._loop.call_soon_threadsafe(self._flowing.set)

    def cut(self) -> None:
        """End every connection."""
        self._await(self._cut())

    def _await(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_unix_connection(str(self._target))
            ways = [asyncio.create_task(self._pass_on(*way)) for way in ((reader, upstream), (answers, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, upstream):
                if end is not None:
                    end.transport.abort()
            self._open.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            await self._flowing.wait()
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            writer.write(chunk)
            await writer.drain()

    async def _cut(self) -> None:
        for task in list(self._open):
            task.cancel()
        await asyncio.sleep(0)

    async def _stop(self) -> None:
        self._server.close()
        self._flowing.set()
        await self._cut()
        while self._open:
            await asyncio.sleep(0.01)
