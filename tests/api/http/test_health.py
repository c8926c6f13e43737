"""Liveness, readiness and metrics, with and without a database."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ropewalk.wire.kinds import JobState
from storage.postgres import retries
from storage.postgres.database import Database
from storage.records import Condition, Progress
from tests.helpers.http_server import POCKET_SPEC, RunningServer, claimed_search, running_server
from tests.helpers.leases import expire_lease
from tests.helpers.postgres import set_read_only
from tests.helpers.waiting import free_port, wait_until


def test_alive_and_ready(server: RunningServer) -> None:
    with server.client() as client:
        assert client.health().status == "ok"
        assert client.ready().status == "ready"


def test_without_a_database_it_lives_but_is_not_ready() -> None:
    database = Database(f"postgresql://nobody:hunter2@127.0.0.1:{free_port()}/none")
    with running_server(database) as server, server.http as http:
        assert http.get("/healthz").status_code == 200
        for path in ("/readyz", "/v1/searches", "/metrics", "/v1/searches/srch_x/events"):
            response = http.get(path)
            assert response.status_code == 503, path
            assert response.json()["code"] in ("NOT_READY", "DATABASE_UNREACHABLE")
            assert int(response.headers["retry-after"]) > 0
            assert "hunter2" not in response.text


def test_a_server_that_takes_no_writes_is_an_outage(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retries, "PATIENCE", 0.5)
    with running_server(database) as server, server.http as http:
        assert http.get("/readyz").status_code == 200
        set_read_only(database, "on")
        for response in (http.post("/v1/searches", json=POCKET_SPEC), http.get("/readyz")):
            assert response.status_code == 503
            assert response.json()["code"] in ("NOT_READY", "DATABASE_UNREACHABLE")
            assert "read-only" in response.json()["detail"]
            assert int(response.headers["retry-after"]) > 0
        assert http.get("/v1/searches").json()["items"] == [], "what is there can be read"
        set_read_only(database, "off")
        wait_until(lambda: http.get("/readyz").status_code == 200)
        assert http.post("/v1/searches", json=POCKET_SPEC).status_code == 202
    assert not [record for record in caplog.records if record.exc_info]


def test_without_tables_it_says_what_to_do(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    with running_server(database) as server, server.http as http:
        response = http.get("/readyz")
        assert response.status_code == 503
        assert "ropewalk db upgrade" in response.json()["detail"]
        assert http.get("/v1/searches").json()["code"] == "SCHEMA_OUTDATED"
    database.close()


def test_metrics_tell_what_controllers_did_and_what_waits(server: RunningServer) -> None:
    jobs, database = server.jobs, server.database
    jobs.request(jobs.create("search", "{}").job.id, "cancel")
    lease = claimed_search(jobs)
    jobs.create("evaluation", "{}")
    jobs.update_progress(lease, Progress(document_passes=12, cached_passes=5, tokens=12_288))
    jobs.append_event(lease, "trial.failed", "{}")
    expire_lease(database, lease.job_id)
    taken = jobs.claim("another", 60, ["search"])
    assert taken is not None
    why = Condition(type="WorkersReady", status=False, reason="WorkerLost", message="gone")
    jobs.put_back(taken[1], why, failures=1, retry_in=0.0)
    failing = jobs.claim("another", 60, ["search"])
    assert failing is not None
    jobs.transition(failing[1], JobState.failed, error_code="FAILURE_BUDGET_SPENT", error_message="too many")
    with server.http as http:
        response = http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    assert told["ropewalk_jobs", "search", "cancelled"] == 1
    assert told["ropewalk_jobs", "finetune", "failed"] == 0
    assert (told["ropewalk_queue_depth", "evaluation"], told["ropewalk_queue_depth", "search"]) == (1, 0)
    assert told["ropewalk_queue_longest_seconds", "evaluation"] > 0
    assert told["ropewalk_document_passes_total", "search", "forward"] == 7
    assert told["ropewalk_document_passes_total", "search", "cache"] == 5
    assert told["ropewalk_tokens_total", "search"] == 12_288
    assert told["ropewalk_job_failures_total", "FAILURE_BUDGET_SPENT", "search"] == 1
    assert told["ropewalk_infrastructure_failures_total", "WorkerLost"] == 1
    assert (told["ropewalk_trial_failures_total",], told["ropewalk_lease_losses_total",]) == (1, 1)
    assert told["ropewalk_stage_seconds_count", "search", "queued"] == 2
    assert told["ropewalk_stage_seconds_sum", "search", "queued"] > 0
    assert told["ropewalk_controllers",] == 0
    assert any(name[0] == "ropewalk_build_info" for name in told)


def test_the_bare_address_leads_to_the_documentation(server: RunningServer) -> None:
    response = httpx.get(server.url, follow_redirects=False)
    assert response.status_code == 307
    assert response.headers["location"] == "/docs"
    assert "swagger" in httpx.get(f"{server.url}/docs").text.lower()
