"""The pages of jobs at `/`: what they show, to whom, and what Chromium says of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from api.report.curves import factors_chart, loss_chart
from ropewalk.wire.kinds import JobState
from ropewalk.wire.pictures import FactorCurve, FactorsPicture
from storage.postgres.database import Database
from storage.records import Progress
from tests.helpers.http_server import RunningServer, add_trials, claimed_search, finish_search, running_server
from tests.helpers.searches import SPEC, run_to_end

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr")


def _finished(server: RunningServer) -> str:
    lease = claimed_search(server.jobs)
    add_trials(server.database, lease, scored=3)
    finish_search(server.jobs, lease)
    return lease.job_id


def test_who_shows_nothing_is_sent_to_the_documentation(server: RunningServer) -> None:
    job_id = _finished(server)
    with server.stranger as http:
        assert http.get("/").headers["location"] == "/docs"
        assert http.get("/", headers={"Cookie": "ropewalk_12345678=another-server"}).headers["location"] == "/docs"
        assert http.get("/", headers={"Authorization": "Bearer rw_wrong"}).status_code == 401
        assert http.get(f"/jobs/{job_id}").status_code == 401


def test_the_list_and_a_finished_search(server: RunningServer) -> None:
    waiting = server.jobs.create("search", json.dumps({"model": "/models/<b>", "target_length": 2048}), [("a", "<i>")])
    job_id = _finished_after(server, waiting.job.id)
    with server.http as http:
        page = http.get("/")
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert f'<a href="/jobs/{job_id}">' in page.text
        assert "&lt;b&gt;" in page.text
        assert "a=&lt;i&gt;" in page.text
        assert "<b>" not in page.text
        one = http.get(f"/jobs/{job_id}")
        assert "yarn it is" in one.text
        assert f'href="/v1/searches/{job_id}/factors?format=hf"' in one.text
        assert "state.changed" in one.text
        assert 'http-equiv="refresh"' not in one.text
        assert http.get("/jobs/srch_none").status_code == 404
        assert http.post("/").status_code == http.delete(f"/jobs/{job_id}").status_code == 405


def _finished_after(server: RunningServer, waiting: str) -> str:
    server.jobs.request(waiting, "cancel")
    return _finished(server)


def test_a_running_search_says_how_far_it_is_and_comes_again(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    add_trials(server.database, lease, scored=3)
    server.jobs.update_progress(lease, Progress(stage="searching", document_passes=7, fraction=0.25, best_nll=0.5))
    with server.http as http:
        page = http.get(f"/jobs/{lease.job_id}").text
    assert 'http-equiv="refresh" content="5"' in page
    assert 'value="0.250"' in page
    assert "7 passes" in page
    assert "best NLL 0.5000" in page
    assert "<polyline" in page


def test_a_finished_search_has_its_pictures(database: Database, tmp_path: Path) -> None:
    with running_server(database) as server:
        job = run_to_end(database, tmp_path, SPEC)
        with server.http as http:
            page = http.get(f"/jobs/{job.id}").text
    assert job.state == "succeeded"
    assert (
        page.index("<h2>Verdict") < page.index("<h2>Best so far") < page.index("<h2>Factors") < page.index("<h2>Hist")
    )
    assert "<title>best so far</title>" in page
    assert page.count("<svg") == 2
    _check_points(page)


def test_a_training_has_its_loss_curve(server: RunningServer) -> None:
    created = server.jobs.create("finetune", json.dumps({"factors": {}})).job
    claimed = server.jobs.claim("test", 60)
    assert claimed is not None
    for state in (JobState.preparing, JobState.training):
        server.jobs.transition(claimed[1], state)
    for step in (*range(1, 700), *range(600, 1200)):  # an interruption did a hundred steps again
        data = {"step": step, "steps": 1199, "loss_long": 3.0 / step, "loss_short": 2.0 / step, "loss_middle": None}
        server.jobs.append_event(claimed[1], "training.step", json.dumps(data))
    with server.http as http:
        page = http.get(f"/jobs/{created.id}").text
    assert "<h2>Loss" in page
    assert "by kind of rows: long drawn through, short drawn dotted." in page
    assert "step 1<" in page
    assert "step 1199<" in page, "all of them, however many pages of events they are"
    assert page.count("<polyline") == 2
    assert page.count("training.step") == 200, "the history shows the newest"
    _check_points(page)
    assert loss_chart(()) == ""


def test_a_baseline_that_turns_pairs_off_does_not_flatten_the_others() -> None:
    """CoPE's last factors are a million."""
    leader, cope = (FactorCurve(name=name, factors=(1.0, last)) for name, last in (("yarn", 2.0), ("cope", 1e6)))
    chart = factors_chart(
        FactorsPicture(
            leader=leader,
            critical_pair=1,
            baselines=(cope,),
            scale=2.0,
            theoretical_critical_pair=1,
            ten_period_critical_pair=1,
        )
    )
    assert ">4</text>" in chart, "twice the leader's largest"
    assert "Factors above 4 are drawn there (cope)." in chart
    _check_points(chart)


def _check_points(page: str) -> None:
    """Every curve lies within its picture."""
    for curve in re.findall(r'points="([^"]+)"', page):
        for point in curve.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= 640
            assert 0 <= y <= 280


def test_links_lead_below_the_prefix_of_a_proxy(server: RunningServer) -> None:
    job_id = _finished(server)
    headers = {**server.operator, "X-Forwarded-Prefix": "/team/ropewalk"}
    page = httpx.get(f"{server.url}/jobs/{job_id}", headers=headers).text
    assert 'href="/team/ropewalk/"' in page
    assert f'href="/team/ropewalk/v1/searches/{job_id}/factors?format=json"' in page
    assert f'href="/team/ropewalk/jobs/{job_id}"' in httpx.get(server.url, headers=headers).text


def test_chromium_shows_both_without_a_word_on_the_console(server: RunningServer, tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: Debian's package is chromium")
    job_id = _finished(server)
    for path, seen in (("/", f"/jobs/{job_id}"), (f"/jobs/{job_id}", "yarn it is")):
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=390,844", "--dump-dom"]
        url = f"{server.url}{path}?token={server.token}"
        shown = subprocess.run([*command, url], capture_output=True, text=True, timeout=120, check=True)
        assert "CONSOLE" not in shown.stderr
        assert seen in shown.stdout
