"""The report page: what it shows, and that a browser has nothing to complain about."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.image import imread

from api.report.page import evaluation_page
from ropewalk.client.errors import ApiError
from ropewalk.wire.kinds import JobState
from search_space.candidates.baselines import BASELINE_NAMES
from storage.jobs.store import JobStore
from tests.helpers.evaluation_results import LENGTHS, NAMES, TASKS, job, result
from tests.helpers.http_server import RunningServer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
)
Browse = Callable[..., subprocess.CompletedProcess[str]]
VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """The text of each table row by its first cell, titles, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "h2":
            self.headings.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
        elif self.open and self.open[-1] == "h2":
            self.headings[-1] += data


def finished_evaluation(jobs: JobStore) -> str:
    created = jobs.create("evaluation", json.dumps({"target_length": 32768})).job
    claimed = jobs.claim("test", 60)
    assert claimed is not None
    for state in (JobState.preparing, JobState.evaluating):
        jobs.transition(claimed[1], state)
    jobs.transition(claimed[1], JobState.succeeded, result_json=json.dumps(result()))
    return created.id


def test_every_contender_and_measure_is_there() -> None:
    page = Page(evaluation_page(job()))
    assert page.headings == [
        "At a glance",
        "Needles",
        "Needles by length and depth",
        "RULER",
        "Plain text",
        "Short-context retention",
        "lm-evaluation-harness",
    ]
    assert page.open == []
    first = {row[0]: row[1:] for row in page.rows[1 : len(NAMES) + 1]}
    assert list(first) == ["base (no scaling)", *BASELINE_NAMES[1:], "found factors", "fine-tuned"]
    assert first["fine-tuned"] == ["0.4300", "90.0 %", "85.6 %", "16k", "7.77", "98.6 %"]
    assert first["base (no scaling)"][5] == "-", "nothing is kept of itself"
    assert ["", *TASKS] in page.rows
    assert ["fine-tuned", "hellaswag: acc_norm", "-", "0.7921", "0.7843", "99.0 %"] in page.rows


def test_nothing_comes_from_elsewhere_and_nothing_runs() -> None:
    html = evaluation_page(job())
    assert Page(html).links == ["data:,"]
    assert "<script" not in html
    assert not re.search(r"url\(|@import|https?://", html)


def test_names_are_text() -> None:
    html = evaluation_page(job())
    assert "org/model &lt;b&gt;&quot;8B&quot;&lt;/b&gt;" in html
    assert "<b>" not in html


def test_needles_alone_at_one_length_make_a_page() -> None:
    """The smallest evaluation, as servers before RULER answered it too."""
    found = {name: result()[name] for name in ("model", "original_length", "target_length")}
    row = {**result()["rows"][0], "by_depth": [[1.0, 0.5, True]]}
    page = Page(evaluation_page(job({**found, "rows": [row]})))
    assert page.headings == ["At a glance", "Needles", "Needles by length and depth"]


def test_over_http(server: RunningServer) -> None:
    with server.client() as client, server.http as http:
        job_id = finished_evaluation(server.jobs)
        assert client.report(job_id) == evaluation_page(client.get(job_id))
        answer = http.get(f"/v1/evaluations/{job_id}/report")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        waiting = server.jobs.create("evaluation", "{}").job.id
        with pytest.raises(ApiError) as early:
            client.report(waiting)
        assert (early.value.status, early.value.code) == (409, "REPORT_NOT_READY")
        assert http.get("/v1/evaluations/eval_nothing/report").status_code == 404


@pytest.fixture
def browse(server: RunningServer, tmp_path: Path) -> Browse:
    """Opens the report of a finished evaluation in headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: Debian's package is chromium")
    url = f"{server.url}/v1/evaluations/{finished_evaluation(server.jobs)}/report?token={server.token}"

    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [CHROMIUM, *FLAGS, profile, *flags, url]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    return run


def test_a_browser_shows_it_without_a_word_on_the_console(browse: Browse) -> None:
    shown = browse("--window-size=1280,900", "--dump-dom")
    assert "CONSOLE" not in shown.stderr
    page = Page(shown.stdout)
    assert len(page.headings) == 7
    assert shown.stdout.count('<svg class="heat"') == len(NAMES)
    assert shown.stdout.count("<polyline") == 5 * len(NAMES)
    assert all(f">{length // 1024}k</text>" in shown.stdout for length in LENGTHS)


def test_it_follows_light_and_dark(browse: Browse, tmp_path: Path) -> None:
    brightness = {}
    for scheme, number in (("dark", 0), ("light", 1)):
        picture = tmp_path / f"{scheme}.png"
        browse("--window-size=600,400", f"--blink-settings=preferredColorScheme={number}", f"--screenshot={picture}")
        brightness[scheme] = float(imread(picture)[:, :, :3].mean())
    assert brightness["dark"] < 0.25
    assert brightness["light"] > 0.85
