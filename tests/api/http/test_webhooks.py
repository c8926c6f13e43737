"""`/v1/webhooks` and `ropewalk webhooks`: whose they are, what is refused, and that the secret is shown once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api.cli import run
from ropewalk.client.errors import ApiError, BadInput
from storage.postgres.database import Database
from tests.helpers.http_server import POCKET_SPEC, RunningServer, running_server

HERE = "127.0.0.0/8"
URL = "http://127.0.0.1:9/hook"


def test_the_secret_is_shown_once(database: Database) -> None:
    with running_server(database, webhook_networks=HERE) as server, server.client() as client, server.http as http:
        made = client.create_webhook(URL, states=["succeeded", "failed", "failed"])
        assert (made.owner, made.every_job, made.url, made.states) == ("local", True, URL, ["succeeded", "failed"])
        assert made.secret.startswith("whsec_")
        for path in ("", f"/{made.id}", f"/{made.id}/deliveries"):
            answer = http.get(f"/v1/webhooks{path}")
            assert answer.status_code == 200
            assert "secret" not in answer.text
        assert [one.id for one in client.webhooks().items] == [made.id]
        assert client.end_webhook(made.id).ended_at is not None
        assert client.end_webhook(made.id).ended_at is not None, "twice is once"
        assert client.webhooks().items == []
        assert http.post("/v1/webhooks", json={"url": URL}).json()["states"] == [
            "succeeded",
            "failed",
            "cancelled",
            "paused",
        ]


def test_webhooks_are_their_owners(database: Database) -> None:
    with running_server(database, host="0.0.0.0", webhook_networks=HERE) as server:
        alice, bob = (server.keys.create(name, ["submit"]) for name in ("alice", "bob"))
        reader, boss = server.keys.create("reader", ["read"]), server.keys.create("boss", ["admin"])
        with server.client(alice) as mine, server.client(bob) as other, server.client(boss) as all_of_them:
            made = mine.create_webhook(URL)
            assert not made.every_job
            assert other.webhooks().items == []
            for ask in (other.end_webhook, other.deliveries):
                with pytest.raises(ApiError, match="must exist and be your own") as refused:
                    ask(made.id)
                assert (refused.value.status, refused.value.code) == (404, "WEBHOOK_NOT_FOUND")
            job = mine.submit(POCKET_SPEC)
            mine.cancel(job.id)
            assert [one.job_id for one in all_of_them.deliveries(made.id).items] == [job.id]
            other.cancel(other.submit(POCKET_SPEC).id)
            assert [one.job_id for one in mine.deliveries(made.id).items] == [job.id]
            assert [one.id for one in all_of_them.webhooks().items] == [made.id]
            all_of_them.end_webhook(made.id)
        with server.client(reader) as client, pytest.raises(ApiError, match="needs a key with scope submit"):
            client.webhooks()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"url": "https://127.0.0.1/"}, "ADDRESS_NOT_ALLOWED"),
        ({"url": "http://localhost:5432/"}, "ADDRESS_NOT_ALLOWED"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "ADDRESS_NOT_ALLOWED"),
        ({"url": "gopher://example.com/"}, "ADDRESS_NOT_ALLOWED"),
        ({"url": "https://user:hunter2@example.com/"}, "ADDRESS_NOT_ALLOWED"),
        ({"url": ""}, "VALIDATION_FAILED"),
        ({"url": "x" * 2001}, "VALIDATION_FAILED"),
        ({"url": 1}, "VALIDATION_FAILED"),
        ({}, "VALIDATION_FAILED"),
        ({"url": "https://8.8.8.8/", "states": []}, "VALIDATION_FAILED"),
        ({"url": "https://8.8.8.8/", "states": ["done"]}, "VALIDATION_FAILED"),
        ({"url": "https://8.8.8.8/", "event": "all"}, "VALIDATION_FAILED"),
    ],
)
def test_bad_webhooks_are_refused(body: dict[str, object], code: str, quiet_server: RunningServer) -> None:
    with quiet_server.http as http:
        answer = http.post("/v1/webhooks", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert "hunter2" not in answer.json()["detail"]
    assert answer.json()["errors"][0]["pointer"].startswith("/")


def test_an_owner_has_so_many_at_most(database: Database) -> None:
    with running_server(database, webhook_networks=HERE) as server, server.client() as client:
        made = [client.create_webhook(URL) for _ in range(20)]
        with pytest.raises(ApiError, match="at most 20 webhooks") as refused:
            client.create_webhook(URL)
        assert (refused.value.status, refused.value.code) == (409, "TOO_MANY_WEBHOOKS")
        client.end_webhook(made[0].id)
        client.create_webhook(URL)


def test_from_the_terminal(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with running_server(database, webhook_networks=HERE) as server:
        monkeypatch.setenv("ROPEWALK_URL", server.url)
        assert run(["webhooks", "create", URL, "--state", "cancelled"]) == 0
        webhook_id, secret = capsys.readouterr().out.split()
        assert secret.startswith("whsec_")
        server.jobs.request(server.jobs.create("search", "{}").job.id, "cancel")
        assert run(["webhooks", "list"]) == 0
        assert webhook_id in capsys.readouterr().out
        assert run(["webhooks", "deliveries", webhook_id]) == 0
        assert "pending" in capsys.readouterr().out
        assert run(["webhooks", "delete", webhook_id, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["id"] == webhook_id
        assert run(["webhooks", "deliveries", webhook_id, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["items"][0]["reason"] == "the webhook ended"
        for arguments, said in (
            (["create", "https://10.0.0.1/"], "public internet"),
            (["create", URL, "--state", "done"], "done"),
            (["delete", "../x"], "a webhook's id must be hook_..."),
        ):
            assert run(["webhooks", *arguments]) == 2
            told = capsys.readouterr().err
            assert said in told
            assert told.count("\n") == 1
        with server.client() as client, pytest.raises(BadInput):
            client.deliveries("srch_x")
