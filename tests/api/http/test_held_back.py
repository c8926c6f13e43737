"""A job that waits because its owner has all at work that it may have says so, everywhere, with both numbers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api.cli import run
from ropewalk.wire.kinds import JobState
from storage.jobs.store import JobStore
from storage.limits import OwnerLimits
from storage.postgres.database import Database
from storage.postgres.tables import EVERY_KEY
from storage.records import Limits, Scheduling
from tests.helpers.http_server import SPEC_JSON, RunningServer, running_server


@pytest.fixture
def server(database: Database) -> Iterator[RunningServer]:
    with running_server(database) as running:
        yield running


def made(store: JobStore, owner: str, *, workers: int = 1) -> str:
    return store.create("search", SPEC_JSON, creator=owner, scheduling=Scheduling(workers=workers)).job.id


def waits(server: RunningServer, job_id: str) -> str | None:
    """What the condition `Progressing` says, if it says that."""
    with server.client(server.token) as client:
        found = [one for one in client.get(job_id).conditions if one.reason == "WaitingForOwner"]
    assert all((one.type, one.status) == ("Progressing", False) for one in found)
    return found[0].message if found else None


def test_of_jobs(server: RunningServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    OwnerLimits(server.database).set(EVERY_KEY, Limits(running_jobs=2), actor="a")
    first, second, third = (made(server.jobs, "key:a") for _ in range(3))
    other = made(server.jobs, "key:b")
    assert waits(server, third) is None, "the others are not at work yet: any of them may be next"
    for _ in range(3):
        assert server.jobs.claim("c", 600.0) is not None
    told = "waits for jobs of key:a, of which 2 are at work and 2 may be at once"
    assert waits(server, third) == told
    assert [waits(server, job_id) for job_id in (first, second, other)] == [None] * 3
    monkeypatch.setenv("ROPEWALK_URL", server.url)
    assert run(["show", third]) == 0
    assert told in " ".join(capsys.readouterr().out.split())
    with server.http as http:
        assert told in http.get(f"/jobs/{third}").text
    OwnerLimits(server.database).set(EVERY_KEY, Limits(running_jobs=3), actor="a")
    assert waits(server, third) is None


def test_of_workers_and_in_any_state(server: RunningServer) -> None:
    OwnerLimits(server.database).set("team", Limits(workers=8), actor="a")
    first, second = made(server.jobs, "team", workers=6), made(server.jobs, "team", workers=4)
    claims = [server.jobs.claim("c", 600.0)]
    assert claims[0] is not None
    told = "waits for workers of team, of which 6 are at work and 8 may be at once: this job takes 4"
    assert waits(server, second) == told
    server.jobs.transition(claims[0][1], JobState.preparing)
    server.jobs.release(claims[0][1])
    claimed = server.jobs.claim("c", 600.0, running=[first])
    assert claimed is not None
    assert claimed[0].id == second
    assert waits(server, first) == told.replace("6 are", "4 are").replace("takes 4", "takes 6"), "released at work"
    server.jobs.request(first, "cancel")
    assert waits(server, first) is None, "an end needs no turn"
