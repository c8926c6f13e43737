"""The Optuna dashboard on our port: there to look at, not to touch."""

import pytest

from tests.api.running import RunningServer, add_trials, claimed_search


def test_the_dashboard_shows_a_search(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    add_trials(server.database, lease, scored=3)
    with server.http as http:
        page = http.get("/dashboard")
        assert page.status_code == 200
        assert "Optuna Dashboard" in page.text
        studies = http.get("/api/studies").json()["study_summaries"]
        assert [study["study_name"] for study in studies] == [lease.job_id]
        study = http.get(f"/api/studies/{studies[0]['study_id']}").json()
        assert len(study["trials"]) == 8
        assert http.get("/api/meta").status_code == 200
        assert http.get("/favicon.ico").status_code == 200
        assert http.head("/dashboard").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/studies"),
        ("DELETE", "/api/studies/1"),
        ("POST", "/api/studies/1/rename"),
        ("PUT", "/api/studies/1/note"),
        ("POST", "/api/trials/1/tell"),
        ("POST", "/api/trials/1/user-attrs"),
        ("PATCH", "/dashboard"),
        ("POST", "/static/bundle.js"),
    ],
)
def test_nothing_can_be_changed(quiet_server: RunningServer, method: str, path: str) -> None:
    with quiet_server.http as http:
        response = http.request(method, path, json={})
    assert response.status_code == 405
    assert response.json()["code"] == "METHOD_NOT_ALLOWED"
    assert response.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/csv/1", "/dashboards", "/static", "/artifacts/1", "/gradio"])
def test_other_paths_do_not_reach_it(quiet_server: RunningServer, path: str) -> None:
    with quiet_server.http as http:
        response = http.get(path)
    assert response.status_code == 404
    assert response.json()["code"] == "NOT_FOUND"


def test_it_serves_no_files_of_others(quiet_server: RunningServer) -> None:
    with quiet_server.http as http:
        for path in ("/static/../../pyproject.toml", "/static/%2e%2e/%2e%2e/_app.py", "/static//etc/passwd"):
            assert http.get(path).status_code in (400, 403, 404)
