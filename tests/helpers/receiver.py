"""A real receiver of webhooks: keeps what it gets, and answers as it is told to."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """What came, and what is answered to the N-th request; the last answer is given again and again."""

    url: str
    answers: list[int]
    received: list[Received] = field(default_factory=list)


@contextmanager
def receiver(
    *answers: int,
    headers: dict[str, str] | None = None,
    before: Callable[[], None] = lambda: None,
    drip: bool = False,
    context: ssl.SSLContext | None = None,
) -> Iterator[Receiver]:
    """Listening on loopback. `before` is called with each request, before the answer; `drip`: a byte of it a second."""
    found: Receiver

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.received.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            before()
            if drip:
                for byte in b"HTTP/1.1 200 OK\r\n" + 1000 * b"a: b\r\n":
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(0.5)
            number = min(len(found.received), len(found.answers)) - 1
            self.send_response(found.answers[number])
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def handle(self) -> None:
            with suppress(OSError):  # whoever asked went away
                super().handle()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if context is None else "https"
    found = Receiver(url=f"{scheme}://localhost:{server.server_address[1]}/hook?a=b", answers=list(answers) or [204])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
