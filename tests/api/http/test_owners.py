"""Whose jobs a key sees and steers; limits and priorities; who did what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.cli import run
from api.settings import Settings
from ropewalk.client.errors import ApiError
from ropewalk.client.sync import Client
from ropewalk.wire.kinds import JobState
from service.door import Door
from service.errors import LimitReached
from service.specs.search import SearchSpec
from service.submissions import Submitter
from storage.limits import OwnerLimits
from storage.postgres.database import Database
from storage.records import Limits
from tests.helpers.http_server import POCKET_SPEC, RunningServer, claimed_search, finish_search, running_server


@pytest.fixture
def open_server(database: Database) -> Iterator[RunningServer]:
    with running_server(database, host="0.0.0.0") as server:
        yield server


def keys(server: RunningServer, *scopes: str) -> tuple[str, str]:
    """Two tokens of equal scopes."""
    first, second = (server.keys.create(name, scopes) for name in ("alice", "bob"))  # type: ignore[arg-type]
    return first, second


def name_of(token: str) -> str:
    return f"key:{token.split('_')[1]}"


def refused(status: int, code: str, ask: object, *arguments: object, **named: object) -> None:
    with pytest.raises(ApiError) as error:
        ask(*arguments, **named)  # type: ignore[operator]
    assert (error.value.status, error.value.code) == (status, code), error.value


def test_a_key_for_ones_own_jobs_sees_no_others(open_server: RunningServer) -> None:
    alice, bob = keys(open_server, "own")
    with open_server.client(alice) as mine, open_server.client(bob) as other:
        job = mine.submit(POCKET_SPEC)
        theirs = other.submit(POCKET_SPEC)
        assert (job.owner, theirs.owner) == (name_of(alice), name_of(bob))
        assert [one.id for one in mine.jobs().items] == [job.id]
        assert mine.jobs().items[0].owner == name_of(alice)
        assert mine.get(job.id).state == "queued"
        assert list(mine.trials(job.id)) == []
        mine.label(job.id, {"a": "b"})
        mine.pause(job.id)
        mine.resume(job.id)
        for ask in (mine.get, mine.cancel, mine.pause, mine.event_list, mine.factors, mine.pictures):
            refused(404, "JOB_NOT_FOUND", ask, theirs.id)
        refused(404, "JOB_NOT_FOUND", mine.label, theirs.id, {"a": "b"})
        refused(404, "JOB_NOT_FOUND", mine.get, "srch_00")
        refused(403, "INSUFFICIENT_SCOPE", mine.delete, job.id)
        refused(403, "INSUFFICIENT_SCOPE", mine.metrics)
        refused(403, "INSUFFICIENT_SCOPE", mine.audit)
        assert mine.plan(POCKET_SPEC) is not None
        assert mine.inspect_model("pocket") is not None
        assert mine.webhooks().items == []
        headers = {"Authorization": f"Bearer {alice}"}
        with open_server.stranger as browser:
            page = browser.get("/", headers=headers)
            assert (page.status_code, job.id in page.text, theirs.id in page.text) == (200, True, False)
            assert browser.get(f"/jobs/{job.id}", headers=headers).status_code == 200
            assert browser.get(f"/jobs/{theirs.id}", headers=headers).status_code == 404
            assert browser.get("/jobs/srch_00", headers=headers).status_code == 404
        mine.cancel(job.id)
    with open_server.http as http:
        dashboard = http.get("/dashboard", headers={"Authorization": f"Bearer {alice}"})
        assert dashboard.status_code == 403


def test_a_spec_of_such_a_key_names_no_job_of_others(open_server: RunningServer) -> None:
    alice, bob = keys(open_server, "own")
    with open_server.client(alice) as mine, open_server.client(bob) as other:
        job = mine.submit(POCKET_SPEC)
        claimed = open_server.jobs.claim("test", 60)
        assert claimed is not None
        for state in (JobState.preparing, JobState.searching):
            open_server.jobs.transition(claimed[1], state)
        finish_search(open_server.jobs, claimed[1])
        for ask in (other.submit_evaluation, other.submit_finetune):
            refused(404, "JOB_NOT_FOUND", ask, {"search_id": job.id})
        refused(404, "JOB_NOT_FOUND", other.plan, {"search_id": job.id}, "evaluation")
        assert mine.submit_evaluation({"search_id": job.id}).owner == name_of(alice)


def test_older_scopes_mean_what_they_meant(open_server: RunningServer) -> None:
    alice, bob = keys(open_server, "read", "submit")
    submitter = open_server.keys.create("s", ["submit"])
    with open_server.client(alice) as mine, open_server.client(bob) as other, open_server.client(submitter) as only:
        job = mine.submit(POCKET_SPEC)
        assert other.get(job.id).owner == name_of(alice)
        assert [one.id for one in other.jobs().items] == [job.id]
        assert other.jobs(mine=True).items == []
        assert [one.id for one in mine.jobs(mine=True).items] == [job.id]
        own = only.submit(POCKET_SPEC)
        assert only.get(own.id).id == own.id
        refused(403, "INSUFFICIENT_SCOPE", only.get, job.id)
        refused(403, "INSUFFICIENT_SCOPE", only.jobs)
        only.cancel(job.id)
    both = open_server.keys.create("b", ["own", "read"])
    with open_server.client(both) as client:
        assert len(client.jobs().items) == 2
        refused(404, "JOB_NOT_FOUND", client.cancel, own.id)


def test_keys_of_one_owner_share_its_jobs(open_server: RunningServer) -> None:
    """So that a key can be rotated."""
    old, new = (open_server.keys.create(name, ["own"], "team-a") for name in ("old", "new"))
    stranger = open_server.keys.create("other", ["own"], "team-b")
    with open_server.client(old) as first, open_server.client(new) as second, open_server.client(stranger) as other:
        job = first.submit(POCKET_SPEC)
        assert job.owner == "team-a"
        assert [one.id for one in second.jobs(mine=True).items] == [job.id]
        second.pause(job.id)
        refused(404, "JOB_NOT_FOUND", other.get, job.id)
    assert open_server.keys.revoke(old.split("_")[1])
    OwnerLimits(open_server.database).set("team-a", Limits(workers=1), actor="operator")
    with open_server.client(new) as second:
        refused(409, "LIMIT_REACHED", second.submit, {**POCKET_SPEC, "workers": 2})
    with open_server.client(open_server.keys.create("boss", ["admin"])) as admin:
        told = admin.audit(subject=job.id).items
        assert [one.actor for one in told] == [name_of(new), name_of(old)], "the log names keys"


@pytest.mark.parametrize("owner", ["", "local", "*", "key:x", "nobody"])
def test_owners_that_stand_for_something_else(owner: str, open_server: RunningServer) -> None:
    with pytest.raises(ValueError, match="an owner must be a name of its own"):
        open_server.keys.create("a", ["own"], owner)


def test_priorities_above_zero_are_for_admins(open_server: RunningServer) -> None:
    alice, _ = keys(open_server, "own")
    boss = open_server.keys.create("boss", ["admin"])
    with open_server.client(alice) as mine, open_server.client(boss) as admin:
        assert mine.submit(POCKET_SPEC, priority=-5).priority == -5
        refused(403, "INSUFFICIENT_SCOPE", mine.submit, POCKET_SPEC, priority=1)
        refused(422, "VALIDATION_FAILED", admin.submit, POCKET_SPEC, priority=101)
        job = admin.submit(POCKET_SPEC, priority=3)
        assert admin.prioritize(job.id, 100).priority == 100
        refused(404, "JOB_NOT_FOUND", mine.prioritize, job.id, 0)
        refused(422, "VALIDATION_FAILED", admin.prioritize, job.id, -101)
        own = mine.submit(POCKET_SPEC)
        assert mine.prioritize(own.id, -1).priority == -1
        refused(403, "INSUFFICIENT_SCOPE", mine.prioritize, own.id, 1)


def test_more_workers_than_the_owner_may_ever_have_are_refused(open_server: RunningServer) -> None:
    alice, bob = keys(open_server, "own")
    OwnerLimits(open_server.database).set(name_of(alice), Limits(workers=2), actor="operator")
    with open_server.client(alice) as mine, open_server.client(bob) as other:
        refused(409, "LIMIT_REACHED", mine.submit, {**POCKET_SPEC, "workers": 3})
        mine.submit({**POCKET_SPEC, "workers": 2})
        other.submit({**POCKET_SPEC, "workers": 3})


def test_stored_bytes_are_limited(database: Database, tmp_path: Path) -> None:
    door, limits = Door(database, home=tmp_path), OwnerLimits(database)
    spec = SearchSpec.model_validate(POCKET_SPEC)
    first = door.submissions.submit_search(spec, Submitter(creator="key:a")).job
    path = tmp_path / "artifacts" / first.id / "model"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 1000)
    limits.set("key:a", Limits(stored_bytes=1001), actor="operator")
    door.submissions.submit_search(spec, Submitter(creator="key:a"))
    limits.set("key:a", Limits(stored_bytes=1000), actor="operator")
    with pytest.raises(LimitReached, match="less than 1000 bytes, but its jobs have 1000: have some of them deleted"):
        door.submissions.submit_search(spec, Submitter(creator="key:a"))
    door.submissions.submit_search(spec, Submitter(creator="key:b"))


def test_who_did_what(open_server: RunningServer) -> None:
    alice, _ = keys(open_server, "own")
    boss = open_server.keys.create("boss", ["admin"])
    with open_server.client(alice) as mine, open_server.client(boss) as admin:
        job = mine.submit({**POCKET_SPEC, "labels": {"a": "hunter2"}})
        mine.cancel(job.id)
        admin.label(job.id, {"a": "hunter3"})
        admin.prioritize(job.id, 4)
        admin.delete(job.id)
        told = admin.audit(subject=job.id)
        assert [(one.actor, one.action) for one in told.items] == [
            (name_of(boss), "job.deleted"),
            (name_of(boss), "job.prioritized"),
            (name_of(boss), "job.labelled"),
            (name_of(alice), "job.cancel"),
            (name_of(alice), "job.submitted"),
        ]
        assert "hunter" not in told.model_dump_json()
        assert [one.action for one in admin.audit(actor="operator").items] == ["key.created"] * 3
        pages, before = [], None
        while True:
            page = admin.audit(limit=3, before=before)
            pages += [one.id for one in page.items]
            before = page.next_before
            if before is None:
                break
        assert pages == sorted(pages, reverse=True)
        assert len(pages) == 8
    reader = open_server.keys.create("r", ["read", "submit"])
    with open_server.client(reader) as client:
        refused(403, "INSUFFICIENT_SCOPE", client.audit)


def test_a_refused_request_is_not_in_the_log(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    with server.client() as client:
        finish_search(server.jobs, lease)
        refused(409, "INVALID_TRANSITION", client.cancel, lease.job_id)
        assert client.audit(subject=lease.job_id).items == []


def test_from_the_terminal(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROPEWALK_URL", server.url)
    monkeypatch.setenv("ROPEWALK_DATABASE_URL", server.database.url)
    assert Settings().database == server.database.url
    assert run(["keys", "create", "alice", "--scope", "own", "--json"]) == 0
    token = json.loads(capsys.readouterr().out)["token"]
    key_id = token.split("_")[1]
    assert run(["keys", "limit", key_id, "--jobs", "2", "--workers", "8", "--bytes", "1G"]) == 0
    assert capsys.readouterr().out == f"{key_id}: 2 jobs, 8 workers, 1073741824 bytes\n"
    assert run(["keys", "limit", "default", "--jobs", "1"]) == 0
    assert run(["keys", "limits", "--json"]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert {one["owner"]: one["running_jobs"] for one in json.loads(told)["items"]} == {
        "default": 1,
        f"key:{key_id}": 2,
    }
    assert run(["keys", "limit", "nobody", "--jobs", "1"]) == 2
    assert "limits are for a key's id or owner, default or local" in capsys.readouterr().err
    assert run(["keys", "limit", "default", "--bytes", "much"]) == 2
    assert "--bytes: a size must be" in capsys.readouterr().err
    assert run(["keys", "limits"]) == 0
    assert key_id in capsys.readouterr().out
    assert run(["keys", "create", "bob", "--owner", "team", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["owner"] == "team"
    assert run(["keys", "limit", "team", "--jobs", "3"]) == 0
    assert run(["keys", "list"]) == 0
    assert "team" in capsys.readouterr().out
    for wrong in ("local", "default", "key:x", " ", ""):
        assert run(["keys", "create", "c", "--owner", wrong]) == 2
        assert "an owner must be a printable name" in capsys.readouterr().err

    with Client(server.url, key=token) as client:
        job_id = client.submit(POCKET_SPEC).id
    assert run(["prioritize", job_id, "7"]) == 0
    assert capsys.readouterr().out == f"{job_id} queued, priority 7\n"
    assert run(["prioritize", job_id, "--", "-7"]) == 0
    assert run(["list", "--mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["items"] == []
    assert run(["audit", "--subject", job_id, "--json"]) == 0
    actions = [one["action"] for one in json.loads(capsys.readouterr().out)["items"]]
    assert actions == ["job.prioritized", "job.prioritized", "job.submitted"]
    assert run(["audit", "--limit", "2"]) == 0
    text = capsys.readouterr()
    assert job_id in text.out
    assert "more: --before" in text.err
