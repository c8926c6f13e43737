"""The Optuna dashboard on our port: there to look at, not to touch."""

import pytest

from evaluation.scores.score import DocumentScore
from search_space.candidates.baselines import baselines
from storage.optuna_tables import dashboard as dashboard_storage
from storage.records import StoredScore
from storage.study.record import StudyRecord
from tests.helpers.accepting import accept_shown
from tests.helpers.http_server import ROPE, RunningServer, add_trials, claimed_search


def test_the_dashboard_shows_a_search(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    add_trials(server.database, lease, scored=3)
    with server.http as http:
        page = http.get("/dashboard")
        assert page.status_code == 200
        assert "Optuna Dashboard" in page.text
        for button in ('"rename study"', '"delete study"', '"AddBoxIcon"'):
            assert button in page.text.partition("{display:none!important}")[0].rpartition("<style>")[2]
        studies = http.get("/api/studies").json()["study_summaries"]
        assert [study["study_name"] for study in studies] == [f"pocket, 1024 ({lease.job_id})"]
        study = http.get(f"/api/studies/{studies[0]['study_id']}").json()
        assert len(study["trials"]) == 8
        assert http.get("/api/meta").status_code == 200
        assert http.get("/favicon.ico").status_code == 200
        assert http.head("/dashboard").status_code == 200
        importances = f"/api/studies/{studies[0]['study_id']}/param_importances"
        assert http.get(importances).json() == {"param_importances": [[]]}, "baselines have no parameters"
        assert http.get("/api/studies/999/param_importances").status_code == 404
        table = http.get(f"/csv/{studies[0]['study_id']}")
        assert table.headers["content-disposition"] == f"attachment; filename={lease.job_id}.csv"
        assert len(table.text.splitlines()) == 1 + 8


def test_studies_are_named_by_what_people_know_them_by(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    study = StudyRecord(server.database, lease.job_id, lease)
    study.create_if_missing(model="/models/mine", target_length=1024, rope=ROPE, labels=[("team", "nlp")])
    (number, *_) = study.add_candidates(0, baselines(ROPE, 1024))
    study.mark_winner(number)
    with server.http as http:
        (summary,) = http.get("/api/studies").json()["study_summaries"]
    assert summary["study_name"] == f"mine, 256 to 1024, team=nlp, winner trial {number} ({lease.job_id})"
    assert server.database.optuna.get_study_id_from_name(lease.job_id) == summary["study_id"], "it is stored by its id"


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
        ("POST", "/csv/1"),
    ],
)
def test_nothing_can_be_changed(quiet_server: RunningServer, method: str, path: str) -> None:
    with quiet_server.http as http:
        response = http.request(method, path, json={})
    assert response.status_code == 405
    assert response.json()["code"] == "METHOD_NOT_ALLOWED"
    assert response.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/csv", "/dashboards", "/static", "/artifacts/1", "/gradio"])
def test_other_paths_do_not_reach_it(quiet_server: RunningServer, path: str) -> None:
    with quiet_server.http as http:
        response = http.get(path)
    assert response.status_code == 404
    assert response.json()["code"] == "NOT_FOUND"


def test_it_serves_no_files_of_others(quiet_server: RunningServer) -> None:
    with quiet_server.http as http:
        for path in ("/static/../../pyproject.toml", "/static/%2e%2e/%2e%2e/_app.py", "/static//etc/passwd"):
            assert http.get(path).status_code in (400, 403, 404)


def test_a_large_study_comes_with_the_curves_of_its_best_trials(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard_storage, "CURVES", 2)
    lease = claimed_search(server.jobs)
    study = StudyRecord(server.database, lease.job_id, lease)
    study.create_if_missing(model="pocket", target_length=1024)
    for number in study.add_candidates(0, baselines(ROPE, 1024)):
        score = DocumentScore(document_id="d", nats=7.0 / (number + 1), tokens=7, exact=True)
        accept_shown(
            server.database, lease, StoredScore(split="search", trial=number, score=score, worker="w"), index=0
        )
        if number < 4:
            study.finish(number, score.nats / 7)
    with server.http as http:
        (summary,) = http.get("/api/studies").json()["study_summaries"]
        shown = http.get(f"/api/studies/{summary['study_id']}?after=0").json()["trials"]
    with_curve = [trial["number"] for trial in shown if trial["intermediate_values"]]
    assert with_curve == [2, 3, 4, 5, 6, 7]  # the best two, and those that have not ended
    assert len(shown) == 8
    stored = server.database.optuna.get_all_trials(summary["study_id"])
    assert all(list(trial.intermediate_values) == [0] for trial in stored)
