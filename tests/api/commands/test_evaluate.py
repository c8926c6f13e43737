"""`ropewalk evaluate` against a real server; the evaluation itself is made."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from api.cli import run
from api.report.page import evaluation_page
from ropewalk.wire.kinds import JobState
from storage.jobs.store import JobStore
from tests.helpers.evaluation_results import result
from tests.helpers.http_server import RunningServer


@pytest.fixture(autouse=True)
def _server_of_the_settings(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_URL", server.url)


def _finish_the_next(jobs: JobStore, state: JobState) -> threading.Thread:
    def work() -> None:
        while (claimed := jobs.claim("worker", 60)) is None:
            time.sleep(0.05)
        for step in (JobState.preparing, JobState.evaluating):
            jobs.transition(claimed[1], step)
        found = json.dumps(result()) if state is JobState.succeeded else None
        code = "SCORING_FAILED" if state is JobState.failed else None
        jobs.transition(claimed[1], state, result_json=found, error_code=code, error_message=code)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_options_become_the_spec(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--target-length", "2048", "--lengths", "2048", "--documents", "2", "--tasks", "vt, niah_single_1"]
    options += ["--ruler-documents", "3", "--threshold", "80", "--text-windows", "4", "--json"]
    assert run(["evaluate", "--model", "pocket", *options]) == 0
    spec = json.loads(capsys.readouterr().out)["spec"]
    assert spec["tasks"] == ["vt", "niah_single_1"]
    assert (spec["ruler_documents"], spec["threshold"], spec["text_windows"]) == (3, 80.0, 4)


def test_what_is_wrong_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    base = ["evaluate", "--model", "pocket", "--target-length", "1024", "--json"]
    for options, told in (
        (["--tasks", "niah"], "a task other than all must be one of"),
        (["--tasks", "qa_1"], "squad must be given"),
        (["--tasks", "all"], "length must be at least"),
        (["--tasks", "qa_2", "--hotpotqa", str(tmp_path / "none.json")], "must exist"),
        (["--checkpoint", str(tmp_path)], "checkpoint must be a directory that holds config.json and factors.json"),
    ):
        assert run([*base, *options]) == 2
        assert told in json.loads(capsys.readouterr().err)["detail"]


def test_what_the_submitter_must_know_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = str(tmp_path / "factors.json")
    shorter = ["--original-length", "128", "--target-length", "512"]
    assert run(["baselines", "--model", "pocket", *shorter, "--name", "yarn", "-o", file]) == 0
    capsys.readouterr()
    assert run(["evaluate", "--factors", file, "--documents", "2"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("eval_")
    assert "note: original_length 128 is below the 256 tokens" in " ".join(told.err.split())


def test_a_report_that_has_no_place_is_told_before_the_work(
    capsys: pytest.CaptureFixture[str], server: RunningServer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for html in (tmp_path, tmp_path / "file" / "report.html"):
        assert run(["evaluate", "--model", "pocket", "--target-length", "512", "--html", str(html)]) == 2
        assert f"but {html} is" in capsys.readouterr().err
    with server.client() as client:
        assert client.jobs("evaluation").items == []


def test_the_report_is_written_once_it_is_there(
    capsys: pytest.CaptureFixture[str], server: RunningServer, tmp_path: Path
) -> None:
    page = tmp_path / "out" / "report.html"
    worker = _finish_the_next(server.jobs, JobState.succeeded)
    arguments = ["evaluate", "--model", "pocket", "--target-length", "512", "--documents", "2", "--html", str(page)]
    assert run(arguments) == 0
    worker.join()
    job_id = capsys.readouterr().out.splitlines()[0]
    with server.client() as client:
        assert page.read_text() == evaluation_page(client.get(job_id))


def test_a_failed_evaluation_has_no_report(server: RunningServer, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    worker = _finish_the_next(server.jobs, JobState.failed)
    arguments = ["evaluate", "--model", "pocket", "--target-length", "512", "--documents", "2", "--html", str(page)]
    assert run(arguments) == 1
    worker.join()
    assert not page.exists()
