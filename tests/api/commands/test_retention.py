"""`label`, `delete` and `purge` against a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.cli import run
from api.commands import retention
from storage.postgres.database import Database
from tests.helpers.http_server import POCKET_SPEC, RunningServer, running_server


@pytest.fixture(autouse=True)
def _settings(server: RunningServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROPEWALK_URL", server.url)
    monkeypatch.chdir(tmp_path)


def ended(server: RunningServer, days: int, **labels: str) -> str:
    job_id = server.jobs.create("search", json.dumps(POCKET_SPEC), list(labels.items())).job.id
    server.jobs.request(job_id, "cancel")
    with server.database.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE ropewalk.jobs SET finished_at = now() - make_interval(days => :d) WHERE id = :id"),
            {"d": days, "id": job_id},
        )
    return job_id


def left(server: RunningServer) -> set[str]:
    return {job.id for kind in ("search", "evaluation") for job in server.jobs.list(kind, limit=200).items}


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert run(arguments) == code
    text = capsys.readouterr()
    return text.out if code == 0 else text.err


def test_delete_takes_several(capsys: pytest.CaptureFixture[str], server: RunningServer) -> None:
    first, second, third = (ended(server, 0) for _ in range(3))
    assert told(capsys, "delete", first, second, first).splitlines() == [
        f"{one} deleted: 0 scores, 2 events, 0 trials, 0 bytes of files" for one in (first, second)
    ]
    assert "local deleted" in told(capsys, "delete", first, code=1)
    assert json.loads(told(capsys, "delete", third, "--json"))["id"] == third
    running = server.jobs.create("search", "{}").job.id
    assert "cancel it first" in told(capsys, "delete", running, code=1)
    assert "an id must be one of" in told(capsys, "delete", "../x", code=2)
    kept = ended(server, 0)
    assert "a job must exist" in told(capsys, "delete", kept, "srch_00000000000000000000000000", code=1)
    assert left(server) == {running, kept}, "a misspelt id is told before anything is gone"


def test_purge_by_age_and_label(capsys: pytest.CaptureFixture[str], server: RunningServer) -> None:
    old, old_other, young = ended(server, 100, team="a"), ended(server, 100, team="b"), ended(server, 10, team="a")
    running = server.jobs.create("search", "{}", [("team", "a")]).job.id
    everyone = {old, old_other, young, running}

    dry = told(capsys, "purge", "--older-than", "90d", "--dry-run")
    assert {line.split()[0] for line in dry.splitlines()[:-1]} == {old, old_other}
    assert dry.splitlines()[-1] == "2 jobs would be deleted"
    assert left(server) == everyone

    assert told(capsys, "purge", "--older-than", "90d", "--label", "team=a").splitlines()[-1] == "1 job deleted"
    assert left(server) == everyone - {old}
    assert told(capsys, "purge", "--label", "team=a", "--kind", "evaluation") == "0 jobs deleted\n"
    assert told(capsys, "purge", "--label", "team=a", "--state", "succeeded") == "0 jobs deleted\n"
    assert json.loads(told(capsys, "purge", "--older-than", "2w", "--json"))["id"] == old_other
    assert told(capsys, "purge", "--older-than", "90d") == "0 jobs deleted\n"
    assert left(server) == {young, running}


def test_purge_leaves_what_others_need(capsys: pytest.CaptureFixture[str], server: RunningServer) -> None:
    needed, other = ended(server, 100), ended(server, 100)
    user = server.jobs.create("evaluation", json.dumps({"search_id": needed})).job.id
    assert run(["purge", "--older-than", "1d"]) == 0
    text = capsys.readouterr()
    assert text.out.splitlines()[-1] == "1 job deleted"
    assert f"{needed} is left alone" in text.err
    assert user in text.err
    assert left(server) == {needed, user}
    assert other not in left(server)


@pytest.mark.slow
def test_more_than_a_page_is_purged(capsys: pytest.CaptureFixture[str], server: RunningServer) -> None:
    for _ in range(205):
        ended(server, 3)
    assert told(capsys, "purge", "--older-than", "2d").splitlines()[-1] == "205 jobs deleted"
    assert left(server) == set()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "purge must be told which jobs"),
        (["--older-than", "soon"], "--older-than: a duration must be a whole number of s, m, h, d or w"),
        (["--older-than", "-1d"], "a duration must be"),
        (["--label", "team"], "--label must be key=value"),
        (["--older-than", "1d", "--kind", "wish"], "kind must be one of"),
        (["--older-than", "1d", "--state", "queued"], "--state must be one of"),
    ],
)
def test_bad_purges_are_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    text = told(capsys, "purge", *arguments, code=2)
    assert said in text
    assert text.count("\n") == 1


def test_labels(capsys: pytest.CaptureFixture[str], server: RunningServer) -> None:
    job_id = ended(server, 0, secret="hunter2", team="a")
    assert told(capsys, "label", job_id, "secret-", "team=b", "x=1=2") == f"{job_id} team=b x=1=2\n"
    job: dict[str, Any] = json.loads(told(capsys, "label", job_id, "team-", "x-", "--json"))
    assert job["labels"] == {} == job["spec"]["labels"]
    assert told(capsys, "label", job_id, "gone-") == f"{job_id} has no labels\n"
    for bad in ("team", "=x", "-", "a="):
        assert "must be key=value or key-" in told(capsys, "label", job_id, "--", bad, code=2)


def test_a_purge_waits_when_it_asks_too_often(
    capsys: pytest.CaptureFixture[str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "TOO_OFTEN_SECONDS", 0.2)
    with running_server(database, host="0.0.0.0", rate_limit="4/second") as server:
        monkeypatch.setenv("ROPEWALK_URL", server.url)
        monkeypatch.setenv("ROPEWALK_API_KEY", server.keys.create("boss", ["admin"]))
        for _ in range(9):
            ended(server, 3)
        assert told(capsys, "purge", "--older-than", "2d").splitlines()[-1] == "9 jobs deleted"
