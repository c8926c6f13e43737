"""DELETE and PATCH of jobs: who may, what is refused, what is told."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from ropewalk.client.errors import ApiError
from ropewalk.wire.kinds import JOB_KINDS, KINDS, JobKind
from storage.postgres.database import Database
from tests.helpers.http_server import (
    POCKET_SPEC,
    RunningServer,
    add_trials,
    claimed_search,
    finish_search,
    running_server,
)


def ended(server: RunningServer, kind: JobKind = "search") -> str:
    job_id = server.jobs.create(kind, json.dumps(POCKET_SPEC), [("team", "nlp")]).job.id
    server.jobs.request(job_id, "cancel")
    return job_id


@pytest.mark.parametrize("kind", JOB_KINDS)
def test_a_job_that_has_ended_is_deleted(kind: JobKind, server: RunningServer) -> None:
    job_id = ended(server, kind)
    path = f"/v1/{KINDS[kind].collection}/{job_id}"
    with server.http as http:
        answer = http.delete(path)
        assert answer.status_code == 200
        assert answer.json() == {"id": job_id, "kind": kind, "scores": 0, "events": 2, "trials": 0, "bytes": 0}
        for again in (http.delete(path), http.get(path), http.get(f"{path}/events"), http.post(f"{path}:cancel")):
            assert (again.status_code, again.json()["code"]) == (404, "JOB_DELETED")
            assert "local deleted" in again.json()["detail"]
        assert http.get(f"/v1/{KINDS[kind].collection}").json()["items"] == []


def test_the_typed_client_deletes_a_search_with_its_study(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    add_trials(server.database, lease, scored=2)
    with server.client() as client, server.http as http:
        with pytest.raises(ApiError) as refused:
            client.delete(lease.job_id)
        assert (refused.value.status, refused.value.code) == (409, "INVALID_TRANSITION")
        assert "cancel it first" in refused.value.detail
        finish_search(server.jobs, lease)
        names = [study["study_name"] for study in http.get("/api/studies").json()["study_summaries"]]
        assert [name.endswith(f"({lease.job_id})") for name in names] == [True]
        deleted = client.delete(lease.job_id)
        assert (deleted.scores, deleted.trials) == (4, 8)
        assert http.get("/api/studies").json()["study_summaries"] == []
        with pytest.raises(ApiError) as gone:
            client.submit_finetune({"search_id": lease.job_id})
        assert (gone.value.status, gone.value.code) == (404, "JOB_DELETED")


def test_what_an_unfinished_job_needs_is_refused(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    finish_search(server.jobs, lease)
    with server.client() as client:
        user = client.submit_evaluation({"search_id": lease.job_id})
        with pytest.raises(ApiError, match=user.id) as refused:
            client.delete(lease.job_id)
        assert (refused.value.status, refused.value.code) == (409, "JOB_IN_USE")
        client.cancel(user.id)
        client.delete(lease.job_id)


def test_only_admin_deletes(database: Database) -> None:
    with running_server(database, host="0.0.0.0") as server:
        job_id = ended(server)
        for scopes in (("read", "submit"), ("worker",)):
            with server.client(server.keys.create("a", scopes)) as client:
                with pytest.raises(ApiError, match="DELETE needs a key with scope admin") as refused:
                    client.delete(job_id)
                assert refused.value.status == 403
        token = server.keys.create("boss", ["admin"])
        with server.client(token) as client:
            assert client.delete(job_id).id == job_id
            with pytest.raises(ApiError, match=f"key:{token.split('_')[1]} deleted"):
                client.get(job_id)


def test_labels_are_set_and_removed(server: RunningServer) -> None:
    job_id = ended(server)
    with server.client() as client:
        job = client.label(job_id, {"secret": "hunter2"})
        assert job.labels == {"team": "nlp", "secret": "hunter2"} == job.spec["labels"]
        assert client.label(job_id, {"secret": None, "team": "long"}).labels == {"team": "long"}
        assert client.get(job_id).spec["labels"] == {"team": "long"}
        assert [one.id for one in client.jobs(label="team=long").items] == [job_id]
        assert client.jobs(label="secret=hunter2").items == []
        full = {f"n{number}": "x" for number in range(31)}
        assert len(client.label(job_id, full).labels) == 32
        with pytest.raises(ApiError, match="at most 32 labels, but would have 33") as refused:
            client.label(job_id, {"one": "more"})
        assert refused.value.status == 422
    with server.database.engine.begin() as connection:
        for table in ("jobs", "events", "audit"):
            query = sa.text(f"SELECT count(*) FROM ropewalk.{table} AS one WHERE one::text ~ 'hunter2'")
            assert connection.execute(query).scalar_one() == 0, table


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"labels": {}}, 200),
        ({"labels": {"": "x"}}, 422),
        ({"labels": {"a": ""}}, 422),
        ({"labels": {"a": "x" * 201}}, 422),
        ({"labels": {"a": 1}}, 422),
        ({"labels": {"a": "\0"}}, 422),
        ({"labels": ["a"]}, 422),
        ({"label": {"a": "b"}}, 422),
        ({"labels": {}, "state": "queued"}, 422),
        ({"labels": {f"n{number}": "x" for number in range(33)}}, 422),
    ],
)
def test_bad_changes_are_told(body: object, status: int, server: RunningServer) -> None:
    job_id = ended(server)
    with server.http as http:
        assert http.patch(f"/v1/searches/{job_id}", json=body).status_code == status
        assert http.patch(f"/v1/evaluations/{job_id}", json={"labels": {}}).status_code == 404


def test_a_fine_tuning_gets_the_labels_that_the_search_has_now(server: RunningServer) -> None:
    """`service.running` reads them anew; here, that a search in a controller's hands can be labelled at all."""
    lease = claimed_search(server.jobs)
    with server.client() as client:
        assert client.label(lease.job_id, {"a": "b"}).labels == {"a": "b"}
    finish_search(server.jobs, lease)


def test_sizes_are_in_the_metrics(server: RunningServer) -> None:
    with server.http as http:
        text = http.get("/metrics").text
    sizes = {
        sample.labels["part"]: sample.value
        for family in text_string_to_metric_families(text)
        if family.name == "ropewalk_database_bytes"
        for sample in family.samples
    }
    assert set(sizes) == {"jobs", "scores", "score_cache", "events", "audit", "studies", "other"}
    assert all(size > 0 for size in sizes.values())
