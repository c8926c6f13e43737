"""`ropewalk wait`: exit codes by outcome."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from api.cli import run
from api.commands import waiting
from ropewalk.wire.kinds import JobState
from tests.helpers.http_server import RunningServer, claimed_search, finish_search


@pytest.fixture(autouse=True)
def _settings(server: RunningServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROPEWALK_URL", server.url)
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.05)
    monkeypatch.chdir(tmp_path)


def cancelled(server: RunningServer) -> str:
    job_id = server.jobs.create("evaluation", "{}").job.id
    server.jobs.request(job_id, "cancel")
    return job_id


def succeeded(server: RunningServer) -> str:
    lease = claimed_search(server.jobs)
    finish_search(server.jobs, lease)
    return lease.job_id


def failed(server: RunningServer) -> str:
    lease = claimed_search(server.jobs)
    server.jobs.transition(lease, JobState.failed, error_code="X", error_message="x")
    return lease.job_id


def test_exit_codes(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, gone = succeeded(server), failed(server), cancelled(server)
    assert run(["wait", good, good]) == 0
    assert capsys.readouterr().out == f"{good} succeeded\n"
    assert run(["wait", good, bad, gone]) == 1
    assert run(["wait", good, gone]) == 3
    capsys.readouterr()
    assert run(["wait", good, gone, "--json"]) == 3
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [good, gone]


def test_it_waits_for_all_or_for_the_first(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    good = succeeded(server)
    queued = server.jobs.create("search", "{}").job.id
    assert run(["wait", queued, good, "--any"]) == 0
    later = threading.Timer(0.5, server.jobs.request, [queued, "cancel"])
    later.start()
    assert run(["wait", queued, good]) == 3
    assert capsys.readouterr().out.splitlines()[-1] == f"{queued} cancelled"
    later.join()


def test_the_time_is_up(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    queued = server.jobs.create("search", "{}").job.id
    server.jobs.request(queued, "pause")
    assert run(["wait", queued, "--timeout", "1s"]) == 4
    told = capsys.readouterr().err
    assert f"{queued} is paused; ropewalk resume {queued}" in told
    assert told.count("is paused") == 1
    assert "the time is up" in told
    assert server.jobs.get(queued).state is JobState.paused


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["srch_00"], 1, "there is no 'srch_00'"),
        (["nonsense"], 2, "an id must be one of"),
        (["srch_00", "--timeout", "soon"], 2, "--timeout: a duration must be"),
        ([], 2, "ID"),
    ],
)
def test_bad_input(arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["wait", *arguments]) == code
    assert said in capsys.readouterr().err
