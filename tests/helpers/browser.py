"""A tab of a real headless Chromium, which says what it asked for and what it complained of."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
SECONDS = 120.0  # a browser on a busy machine


@dataclass
class Tab:
    """What the DevTools protocol tells over a pipe: messages are JSON that a zero byte ends."""

    reading: int
    writing: int
    #: (method, URL, status) of each answer
    answers: list[tuple[str, str, int]] = field(default_factory=list)
    #: errors on the console, exceptions that no script caught, and requests that were not answered
    complaints: list[str] = field(default_factory=list)
    _session: str | None = None
    _sent: int = 0
    _buffer: bytes = b""
    _replies: dict[int, dict[str, Any]] = field(default_factory=dict)
    _asked: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def asked(self) -> list[str]:
        """The URLs that were answered."""
        return [url for _, url, _ in self.answers]

    def attach(self) -> None:
        """Open the tab and listen to it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Network", "Page", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Go to a page."""
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of a script's expression in the page, or what it promises."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return told["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Return when the expression is true."""
        until = time.monotonic() + SECONDS
        while not self.evaluate(f"!!({expression})"):
            if time.monotonic() > until:
                shown = self.evaluate("document.location + ' ' + document.body.innerText")
                raise AssertionError(f"{expression} never held: {shown} {self.complaints} {self.answers}")
            time.sleep(0.3)

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """The result of a call of the protocol."""
        self._sent += 1
        number = self._sent
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + SECONDS
        while number not in self._replies:
            assert time.monotonic() < until, f"Chromium does not answer {method}"
            self._take()
        reply = self._replies.pop(number)
        assert "error" not in reply, f"{method}: {reply['error']}"
        return dict(reply["result"])

    def _take(self) -> None:
        if not select.select([self.reading], [], [], 1.0)[0]:
            return
        received = os.read(self.reading, 1 << 16)
        assert received, "Chromium has ended"
        *whole, self._buffer = (self._buffer + received).split(b"\0")
        for text in whole:
            message = json.loads(text)
            if "id" in message:
                self._replies[message["id"]] = message
            else:
                self._note(message["method"], message["params"])

    def _note(self, method: str, told: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            if "redirectResponse" in told:
                self._answered(told["requestId"], told["redirectResponse"])
            self._asked[told["requestId"]] = (told["request"]["method"], told["request"]["url"])
        elif method == "Network.responseReceived":
            self._answered(told["requestId"], told["response"])
        elif method == "Network.loadingFailed" and not told.get("canceled", False):
            self.complaints.append(f"{self._asked.get(told['requestId'])}: {told['errorText']}")
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] == "error":
            self.complaints.append(str(told["args"]))

    def _answered(self, request: str, response: dict[str, Any]) -> None:
        method, _ = self._asked.get(request, ("GET", ""))
        self.answers.append((method, response["url"], response["status"]))


@contextmanager
def browser(profile: Path, *flags: str) -> Iterator[Tab]:
    """A tab of a Chromium of its own."""
    assert CHROMIUM is not None
    # Chromium reads descriptor 3 and writes 4: a shell puts ours there, which are moved out of their way first.
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    given = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]
    script = f'exec 3<&{given[0]} 4>&{given[1]}; exec "$0" "$@"'
    command = [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}"]
    process = subprocess.Popen(["bash", "-c", script, *command], pass_fds=given, stderr=subprocess.DEVNULL)
    for end in (theirs_in, theirs_out, *given):
        os.close(end)
    tab = Tab(reading=ours_in, writing=ours_out)
    try:
        tab.attach()
        yield tab
    finally:
        os.close(ours_out)
        os.close(ours_in)
        process.terminate()
        process.wait()
