"""Liveness, readiness and metrics, with and without a database."""

import httpx

from storage.database import Database
from tests.api.running import RunningServer, free_port, running_server


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


def test_without_tables_it_says_what_to_do(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    with running_server(database) as server, server.http as http:
        response = http.get("/readyz")
        assert response.status_code == 503
        assert "ropewalk db upgrade" in response.json()["detail"]
        assert http.get("/v1/searches").json()["code"] == "SCHEMA_OUTDATED"
    database.close()


def test_metrics_count_jobs_by_kind_and_state(server: RunningServer) -> None:
    server.jobs.create("evaluation", "{}")
    server.jobs.request(server.jobs.create("search", "{}").job.id, "cancel")
    with server.http as http:
        response = http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert 'ropewalk_jobs{kind="search",state="cancelled"} 1.0' in response.text
    assert 'ropewalk_jobs{kind="evaluation",state="queued"} 1.0' in response.text
    assert 'ropewalk_jobs{kind="finetune",state="failed"} 0.0' in response.text
    assert "ropewalk_build_info" in response.text


def test_the_bare_address_leads_to_the_documentation(server: RunningServer) -> None:
    response = httpx.get(server.url, follow_redirects=False)
    assert response.status_code == 307
    assert response.headers["location"] == "/docs"
    assert "swagger" in httpx.get(f"{server.url}/docs").text.lower()
