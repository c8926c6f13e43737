"""How long the API's answers take at size: every GET of its OpenAPI document, and what the dashboard loads.

The server is `ropewalk serve --no-controller` in a process of its own, asked by one client that waits for each answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from api.preflight import bind
from benchmarks.storage.table import Timings

#: Parameters of a list at its largest, beside the defaults.
LARGEST: dict[str, str] = {
    "list_searches": "?limit=200",
    "list_trials": "?limit=200&view=full&after=1000",
    "list_scores": "?split=search&limit=200",
}
#: What the dashboard asks for when it opens at a study, in this order.
DASHBOARD = ("/dashboard/studies/{study}", "/static/bundle.js", "/api/meta", "/api/studies/{study}?after=0")

_PLOTTED = "return document.querySelectorAll('.js-plotly-plot .points path').length > 0"


@contextmanager
def serving(database_url: str, home: Path) -> Iterator[httpx.Client]:
    """A client of a server on `database_url`."""
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    settings = {
        "ROPEWALK_DATABASE_URL": database_url,
        "ROPEWALK_HOME": str(home / "server"),
        "ROPEWALK_PORT": str(port),
        "ROPEWALK_RATE_LIMIT": "off",
    }
    command = [sys.executable, "-m", "api.cli", "serve", "--no-controller", "--json"]
    server = subprocess.Popen(command, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        with httpx.Client(base_url=url, timeout=120) as client:
            _wait_until_ready(client)
            yield client
    finally:
        server.terminate()
        server.wait()


def get_latencies(client: httpx.Client, searches: list[str], *, repeats: int) -> Iterator[Timings]:
    """Each GET about searches, `repeats` times in turns over the searches, which are all another to it at first.

    The OpenAPI document names them; those of fine-tunings and evaluations are the same code on fewer rows.
    """
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        name = operations.get("get", {}).get("operationId")
        if name is None or "finetune" in path or "evaluation" in path:
            continue
        for query in ("", *([LARGEST[name]] if name in LARGEST else [])):
            yield _timed(client, path + query, searches, repeats)


def dashboard_seconds(client: httpx.Client, study: int) -> Iterator[tuple[str, float, int]]:
    """(path, seconds, bytes) of what the dashboard loads when it is opened at a study that nobody has asked for."""
    for path in (one.format(study=study) for one in DASHBOARD):
        started = time.perf_counter()
        answer = client.get(path)
        answer.raise_for_status()
        yield path, time.perf_counter() - started, len(answer.content)


def dashboard_in_chromium(client: httpx.Client, study: int) -> Iterator[tuple[str, float]]:
    """(turn, seconds) from opening a study's page in headless Chromium until its first plot has its points: a browser
    that has nothing cached and a study that nobody has asked for, then again."""
    page = f"{str(client.base_url).rstrip('/')}/dashboard/studies/{study}"
    with _chromium() as browser:
        for turn in ("first", "again"):
            started = time.perf_counter()
            browser.post("url", json={"url": page}).raise_for_status()
            while not browser.post("execute/sync", json={"script": _PLOTTED, "args": []}).json()["value"]:
                if time.perf_counter() - started > 120:
                    raise TimeoutError("the dashboard must draw within 120 s")
                time.sleep(0.05)
            yield turn, time.perf_counter() - started


@contextmanager
def _chromium() -> Iterator[httpx.Client]:
    """A WebDriver session; the client's addresses are relative to it."""
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL)
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1600,1200"]
    wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, transport=_patient()) as http:
            session = http.post("/session", json=wanted).raise_for_status().json()["value"]["sessionId"]
            with httpx.Client(base_url=f"http://127.0.0.1:{port}/session/{session}/", timeout=120) as browser:
                try:
                    yield browser
                finally:
                    http.delete(f"/session/{session}").raise_for_status()  # ends the browser
    finally:
        driver.terminate()
        driver.wait()


def _patient() -> httpx.HTTPTransport:
    return httpx.HTTPTransport(retries=8)  # the driver takes a second to listen


def _timed(client: httpx.Client, path: str, searches: list[str], repeats: int) -> Timings:
    seconds = []
    for turn in range(repeats):
        url = path.replace("{search_id}", searches[turn % len(searches)])
        started = time.perf_counter()
        answer = client.get(url)
        seconds.append(time.perf_counter() - started)
        assert answer.status_code == 200, (url, answer.text)
    return Timings(name=f"GET {path}", seconds=tuple(seconds))


def _wait_until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise TimeoutError("the server must answer within 120 s")
