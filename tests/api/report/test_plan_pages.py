"""The pages that say what a job costs: the plan's own numbers, in a form that a real browser sends."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from api.report.plans import cells
from ropewalk.wire.plan import Plan
from service.plans.making import plan_search
from service.plans.work import Device
from service.specs.plan import PlanOptions
from service.specs.search import SearchSpec
from tests.helpers.browser import CHROMIUM, browser
from tests.helpers.http_server import RunningServer

SPEC = {"model": "pocket", "target_length": 512, "finetune": {}}
ASKED = {"model": "pocket", "target_length": "512", "finetune": "yes"}
OPTIONS = {"gpu": "L4", "gpus": "2", "price_per_gpu_hour": "0.7"}
EMPTY = {"gpus": "", "utilisation": "", "price_per_gpu_hour": ""}  # as a browser sends what was not filled in


def _plan(**options: str) -> Plan:
    return plan_search(SearchSpec.model_validate(SPEC), Device.of(PlanOptions.model_validate(options)))


def _check_shows(page: str, plan: Plan) -> None:
    for row in cells(plan):
        assert "".join(f'<td class="left">{cell}</td>' for cell in row) in page


def test_the_page_shows_the_plan_of_what_was_filled_in(quiet_server: RunningServer) -> None:
    with quiet_server.http as http:
        empty = http.get("/plan")
        told = http.get("/plan", params={**ASKED, **OPTIONS})
        default = http.get("/plan", params={**ASKED, **EMPTY})
        assert 'href="/plan"' in http.get("/").text
    assert "<table" not in empty.text
    assert "This cannot be planned" not in empty.text
    _check_shows(told.text, _plan(**OPTIONS))
    assert '<th class="left" scope="col">price</th>' in told.text
    assert 'value="0.7"' in told.text
    assert "<option selected>L4</option>" in told.text
    _check_shows(default.text, _plan())
    assert told.headers["content-security-policy"].startswith("default-src 'none'")
    with quiet_server.stranger as http:
        assert http.get("/plan").status_code == 401


@pytest.mark.parametrize(
    ("asked", "status", "told"),
    [
        ({"model": "pocket"}, 422, "target_length: must be given"),
        ({"target_length": "many"}, 422, "many"),
        ({"model": "/no/such/<b>"}, 422, "/no/such/&lt;b&gt;"),
        ({"gpus": "0"}, 422, "gpus: "),
        ({"price_per_gpu_hour": "cheap"}, 422, "cheap"),
        ({"gpu": "abacus"}, 422, "abacus"),
    ],
)
def test_what_cannot_be_planned_is_told_on_the_page(
    quiet_server: RunningServer, asked: dict[str, str], status: int, told: str
) -> None:
    given = asked if asked == {"model": "pocket"} else {**ASKED, **asked}
    with quiet_server.http as http:
        page = http.get("/plan", params=given)
    assert page.status_code == status
    assert "<h2>This cannot be planned</h2>" in page.text
    assert told in page.text
    assert "<b>" not in page.text


def test_a_field_that_there_is_not_is_refused(quiet_server: RunningServer) -> None:
    with quiet_server.http as http:
        refused = http.get("/plan", params={"modle": "pocket"})
    assert refused.status_code == 422
    assert "model" in refused.json()["errors"][0]["detail"]


def test_a_job_has_the_plan_of_its_spec(server: RunningServer) -> None:
    job = server.jobs.create("search", json.dumps(SPEC)).job
    gone = server.jobs.create("finetune", json.dumps({"search_id": "srch_none"})).job
    with server.http as http:
        assert f'href="/jobs/{job.id}/plan"' in http.get(f"/jobs/{job.id}").text
        _check_shows(http.get(f"/jobs/{job.id}/plan", params=OPTIONS).text, _plan(**OPTIONS))
        assert "srch_none" in http.get(f"/jobs/{gone.id}/plan").text
        assert http.get("/jobs/srch_none/plan").status_code == 404
        assert http.post(f"/jobs/{job.id}/plan").status_code == 405
    prefixed = {**server.operator, "X-Forwarded-Prefix": "/team"}
    assert f'href="/team/jobs/{job.id}"' in httpx.get(f"{server.url}/jobs/{job.id}/plan", headers=prefixed).text


def test_others_see_the_plan_of_none_but_their_own_jobs(server: RunningServer) -> None:
    job = server.jobs.create("search", json.dumps(SPEC)).job
    own = {"Authorization": f"Bearer {server.keys.create('alice', ['own'])}"}
    assert httpx.get(f"{server.url}/jobs/{job.id}/plan", headers=own).status_code == 404
    assert httpx.get(f"{server.url}/plan", params=ASKED, headers=own).status_code == 200


def test_a_key_that_may_only_read_has_no_models_read_for_it(server: RunningServer) -> None:
    job = server.jobs.create("search", json.dumps(SPEC)).job
    reader = {"Authorization": f"Bearer {server.keys.create('alice', ['read'])}"}
    assert httpx.get(f"{server.url}/plan", params=ASKED, headers=reader).status_code == 403
    assert httpx.get(f"{server.url}/jobs/{job.id}/plan", headers=reader).status_code == 200


def test_a_spec_of_a_newer_version_is_told_on_the_page(server: RunningServer) -> None:
    job = server.jobs.create("search", json.dumps({**SPEC, "later": 1})).job
    with server.http as http:
        page = http.get(f"/jobs/{job.id}/plan")
    assert "every field of the job&#x27;s spec must be known" in page.text
    assert "later" in page.text


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed here")
def test_a_browser_fills_in_the_form(server: RunningServer, tmp_path: Path) -> None:
    with browser(tmp_path / "profile") as tab:
        tab.open(f"{server.url}/?token={server.token}")
        tab.wait_for("document.querySelector('a[href=\"/plan\"]')")
        tab.evaluate("document.querySelector('a[href=\"/plan\"]').click()")
        tab.wait_for("document.querySelector('input[name=model]')")
        for name, value in (("model", "pocket"), ("target_length", "512"), ("price_per_gpu_hour", "2.5")):
            tab.evaluate(f"document.querySelector('input[name={name}]').value = '{value}'")
        tab.evaluate("document.querySelector('button').click()")
        tab.wait_for("document.querySelector('table')")
        assert "validation" in tab.evaluate("document.body.innerText")
        assert tab.complaints == []
