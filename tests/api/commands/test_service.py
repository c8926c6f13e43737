"""Commands that talk to a server, against a real one."""

import json
import os
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from api.cli import run
from api.commands import live
from ropewalk.client import progress as progress_lines
from ropewalk.client.errors import BadInput
from ropewalk.client.sync import Client
from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.kinds import JobState
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import Condition, Progress
from storage.study.record import StudyRecord
from tests.helpers.http_server import POCKET_SPEC, RunningServer, add_trials, claimed_search, factor_file, finish_search
from tests.helpers.waiting import free_port


@pytest.fixture(autouse=True)
def _settings(server: RunningServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROPEWALK_URL", server.url)
    monkeypatch.chdir(tmp_path)


def _run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert run(arguments) == code
    told = capsys.readouterr()
    return told.out if code == 0 else told.err


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(_run(capsys, *arguments, "--json"))
    return value


def test_submit_a_file_with_flags_over_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, server: RunningServer
) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({**POCKET_SPEC, "labels": {"a": "1"}, "budget": {"max_trials": 5, "patience": 2}}))
    job_id = _run(
        capsys, "submit", str(path), "--max-trials", "40", "--label", "b=2", "--attention-factor", "search"
    ).strip()
    spec = json.loads(server.jobs.get(job_id).spec_json)
    assert spec["budget"].items() >= {"max_trials": 40, "max_document_passes": None, "patience": 2}.items()
    assert spec["labels"] == {"a": "1", "b": "2"}
    assert spec["scorer"]["attention_factor"] == "search"


def test_submit_documents_that_skip(capsys: pytest.CaptureFixture[str], server: RunningServer) -> None:
    search = ["submit", "--model", "pocket", "--target-length", "1024", "--max-tokens", "1000000"]
    spec = _json(capsys, *search, "--skip-tokens", "200", "--skip-places", "anywhere")["spec"]
    assert spec["objective"]["skipped"].items() >= {"tokens": 200, "gaps": 2, "places": "anywhere"}.items()
    assert spec["budget"]["max_tokens"] == 1_000_000


def test_submit_flags_alone_with_a_key(capsys: pytest.CaptureFixture[str], server: RunningServer) -> None:
    arguments = ["submit", "--model", "pocket", "--target-length", "1024", "--finetune", "--idempotency-key", "k"]
    first, again = _json(capsys, *arguments), _json(capsys, *arguments)
    assert first["id"] == again["id"]
    assert first["spec"]["finetune"] is not None


def test_a_shorter_original_length_is_told_at_once_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["submit", "--model", "pocket", "--target-length", "512", "--original-length", "128"]) == 0
    told = capsys.readouterr()
    said = "original_length 128 is below the 256 tokens that the model is published for"
    assert f"note: {said}" in " ".join(told.err.split())
    shown = " ".join(_run(capsys, "show", told.out.strip()).split())
    assert "original_length 128" in shown
    assert said in shown


def test_submit_can_only_check(capsys: pytest.CaptureFixture[str], server: RunningServer) -> None:
    told = _json(capsys, "submit", "--model", "pocket", "--target-length", "1024", "--validate-only")
    assert told["document_passes"] > 0
    with server.client() as client:
        assert client.jobs().items == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--max-trials", "-5"], "/budget/max_trials"),
        (["--strategy", "wishing"], "wishing"),
        (["--target-length", "100"], "target_length=100"),
        (["--model", "/no/such/model"], "/no/such/model"),
        (["--corpus", "/no/such.txt"], "/no/such.txt"),
    ],
)
def test_what_the_server_refuses_is_one_line(capsys: pytest.CaptureFixture[str], flags: list[str], said: str) -> None:
    arguments = ["submit", "--model", "pocket", "--target-length", "1024", *flags]
    told = _run(capsys, *arguments, code=2)
    assert said in told
    assert told.count("\n") == 1
    assert said in json.loads(_run(capsys, *arguments, "--json", code=2))["detail"]


def test_the_life_of_a_search(capsys: pytest.CaptureFixture[str], server: RunningServer) -> None:
    job_id = server.jobs.create("search", json.dumps(POCKET_SPEC), [("team", "nlp")]).job.id
    assert _run(capsys, "pause", job_id) == f"{job_id} paused\n"
    assert _run(capsys, "resume", job_id) == f"{job_id} queued\n"
    assert [item["id"] for item in _json(capsys, "list", "--label", "team=nlp")["items"]] == [job_id]
    assert _json(capsys, "list", "--kind", "finetune")["items"] == []
    assert job_id in _run(capsys, "list")
    assert "pocket" in _run(capsys, "show", job_id)
    assert _json(capsys, "show", job_id)["state"] == "queued"
    assert _json(capsys, "cancel", job_id)["state"] == "cancelled"
    told = json.loads(_run(capsys, "resume", job_id, "--json", code=1))
    assert (told["status"], told["code"]) == (409, "INVALID_TRANSITION")
    assert _run(capsys, "watch", job_id, code=1).count("cancelled") >= 1, "a job that did not succeed is no success"


def test_an_id_cannot_say_another_action(capsys: pytest.CaptureFixture[str], server: RunningServer) -> None:
    job_id = server.jobs.create("search", json.dumps(POCKET_SPEC)).job.id
    for given in (f"{job_id}:cancel#", f"{job_id}/", f"../searches/{job_id}", f"{job_id}\n"):
        assert "an id must be one of srch_..." in _run(capsys, "pause", given, code=2)
    assert server.jobs.get(job_id).state is JobState.queued


def test_what_no_header_can_carry_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    told = _run(capsys, "submit", "--model", "pocket", "--target-length", "1024", "--idempotency-key", "x ", code=2)
    assert "must be text that HTTP can carry" in told
    with Client(os.environ["ROPEWALK_URL"], key="hunter2\n") as client:
        with pytest.raises(BadInput) as refused:
            client.jobs()
        assert "hunter2" not in str(refused.value)


def test_watch_shows_bars_and_ends_with_the_job(capsys: pytest.CaptureFixture[str], server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    server.jobs.update_progress(
        lease,
        Progress(
            stage="searching",
            document_passes=5,
            total_document_passes=10,
            tokens=5_120,
            total_tokens=10_240,
            best_nll=0.5,
            seconds_left=183.0,
        ),
    )
    shown = _run(capsys, "show", lease.job_id)
    assert "5.12k of at most 10.2k" in shown
    assert "at most 3 min to validation" in shown
    assert " \n" not in shown, "no line ends in spaces where it is not a terminal"
    ender = threading.Timer(1.0, finish_search, (server.jobs, lease))
    ender.start()
    assert run(["watch", lease.job_id]) == 0
    ender.join()
    told = capsys.readouterr()
    assert "yarn it is" in told.out
    assert "succeeded" in told.err


def test_a_log_gets_plain_lines_that_are_not_wrapped(
    capsys: pytest.CaptureFixture[str], server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_lines, "QUIET_SECONDS", 0.5)
    lease = claimed_search(server.jobs)
    progress = Progress(stage="searching", document_passes=5, total_document_passes=10, best_nll=0.5, fraction=0.5)
    server.jobs.update_progress(lease, progress)
    ender = threading.Timer(2.0, finish_search, (server.jobs, lease))
    ender.start()
    assert run(["watch", lease.job_id]) == 0
    ender.join()
    lines = [line for line in capsys.readouterr().err.splitlines() if "5/10 passes" in line]
    assert sum("50 %" in line for line in lines) >= 2, "a quiet job is told again"
    assert all(lease.job_id in line and "best NLL 0.5000" in line for line in lines)


def test_ctrl_c_says_how_to_come_back(
    capsys: pytest.CaptureFixture[str], server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = claimed_search(server.jobs)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "event_list", interrupted)
    assert run(["watch", lease.job_id]) == 130
    told = capsys.readouterr().err
    assert f"{lease.job_id} goes on; ropewalk watch {lease.job_id} follows it again" in told
    assert not server.jobs.get(lease.job_id).state.is_final


def test_a_piped_list_has_columns_and_whole_ids(capsys: pytest.CaptureFixture[str], server: RunningServer) -> None:
    job_id = _run(capsys, "submit", "--model", "pocket", "--target-length", "1k", "--label", "team=nlp").strip()
    heading, row = _run(capsys, "list").splitlines()
    assert heading.split()[:4] == ["id", "state", "model", "length"]
    assert row.split()[:4] == [job_id, "queued", "pocket", "1024"]
    assert row.isascii()


def test_watch_as_json_prints_an_event_a_line(capsys: pytest.CaptureFixture[str], server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    finish_search(server.jobs, lease)
    lines = _run(capsys, "watch", lease.job_id, "--json").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [event.id for event in server.jobs.events(lease.job_id)]


def test_submit_and_wait(capsys: pytest.CaptureFixture[str], server: RunningServer) -> None:
    def work() -> None:
        while (claimed := server.jobs.claim("worker", 60)) is None:
            time.sleep(0.05)
        for state in (JobState.preparing, JobState.searching):
            server.jobs.transition(claimed[1], state)
        finish_search(server.jobs, claimed[1])

    worker = threading.Thread(target=work)
    worker.start()
    told = _json(capsys, "submit", "--model", "pocket", "--target-length", "1024", "--wait")
    worker.join()
    assert told["state"] == "succeeded"
    assert told["result"]["statement"] == "yarn it is"


def test_factors_to_a_file_and_to_standard_output(
    capsys: pytest.CaptureFixture[str], server: RunningServer, tmp_path: Path
) -> None:
    lease = claimed_search(server.jobs)
    assert "state is searching" in _run(capsys, "factors", lease.job_id, code=1)
    finish_search(server.jobs, lease)
    path = tmp_path / "out" / "factors.json"
    assert _run(capsys, "factors", lease.job_id, "-o", str(path)).strip() == str(path)
    assert FactorFile.from_json(path.read_text()) == factor_file()
    assert FactorFile.from_json(_run(capsys, "factors", lease.job_id)) == factor_file()
    assert _json(capsys, "factors", lease.job_id, "--format", "hf")
    assert "csv" in _json(capsys, "factors", lease.job_id, "--format", "csv")
    _run(capsys, "factors", lease.job_id, "--format", "stone-tablet", code=2)


def test_finetune_and_evaluate(capsys: pytest.CaptureFixture[str], server: RunningServer, tmp_path: Path) -> None:
    lease = claimed_search(server.jobs)
    finish_search(server.jobs, lease)
    path = tmp_path / "factors.json"
    path.write_text(factor_file().to_json())
    finetune = _json(capsys, "finetune", "--search", lease.job_id, "--steps", "3", "--label", "a=b")
    assert finetune["spec"]["settings"]["steps"] == 3
    assert _run(capsys, "finetune", "--factors", str(path)).startswith("ft_")
    written = path.parent / "finetune.json"
    settings = {"steps": 7, "seed": 4, "checkpoint_every": 2}
    spec = {"factors": json.loads(path.read_text()), "settings": settings, "labels": {"a": "b"}}
    written.write_text(json.dumps(spec))
    trained = _run(capsys, "finetune", str(written), "--steps", "3", "--label", "c=d").strip()
    stored = server.jobs.get(trained)
    assert dict(stored.labels) == {"a": "b", "c": "d"}
    found = json.loads(stored.spec_json)["settings"]
    assert (found["steps"], found["seed"], found["checkpoint_every"]) == (3, 4, 2), "flags win over the file"
    evaluation = _json(capsys, "evaluate", "--search", lease.job_id, "--documents", "4", "--lengths", "256,512")
    assert evaluation["spec"]["lengths"] == [256, 512]
    assert evaluation["spec"]["model"] is None
    assert _run(capsys, "evaluate", "--factors", str(path), "--no-baselines").startswith("eval_")
    written.write_text(json.dumps({"factors": spec["factors"], "baselines": False, "lengths": ["256"]}))
    evaluated = json.loads(server.jobs.get(_run(capsys, "evaluate", str(written), "--seed", "3").strip()).spec_json)
    assert (evaluated["baselines"], evaluated["lengths"], evaluated["seed"]) == (False, [256], 3)
    alone = _json(capsys, "evaluate", "--model", "pocket", "--target-length", "512")
    assert alone["spec"]["model"] == "pocket"


def test_no_server(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_URL", f"http://127.0.0.1:{free_port()}")
    told = _run(capsys, "list", code=1)
    assert "ropewalk serve" in told
    assert told.count("\n") == 1
    for command in (["list"], ["watch", "srch_1"]):
        assert json.loads(_run(capsys, *command, "--json", code=1))["code"] == "SERVER_UNREACHABLE"
    assert "ropewalk serve" in _run(capsys, "watch", "srch_1", code=1), "only a server that has answered is waited for"


def test_keys_and_migrations(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, empty_database_url: str
) -> None:
    monkeypatch.setenv("ROPEWALK_DATABASE_URL", empty_database_url)
    assert _json(capsys, "db", "upgrade") == {"status": "current"}
    with closing(Database(empty_database_url)) as database:
        database.check()
    assert run(["keys", "create", "ann", "--scope", "read", "--json"]) == 0
    told = capsys.readouterr()
    made = json.loads(told.out)
    assert made["token"].startswith("rw_")
    assert "this is the only key" in told.err
    assert "scope read alone" in told.err
    assert run(["keys", "create", "bob"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("rw_")
    assert "only key" not in told.err
    items = _json(capsys, "keys", "list")["items"]
    assert [(item["name"], item["scopes"]) for item in items] == [("ann", ["read"]), ("bob", ["read", "submit"])]
    assert made["token"] not in _run(capsys, "keys", "list")
    assert _json(capsys, "keys", "revoke", items[0]["id"])["revoked"] is True
    for key_id in (items[0]["id"], "\udcff"):
        assert "active key" in _run(capsys, "keys", "revoke", key_id, code=2)


def test_a_backup_is_restored_into_an_empty_database_only(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    server: RunningServer,
    empty_database_url: str,
    tmp_path: Path,
) -> None:
    lease = claimed_search(server.jobs)
    add_trials(server.database, lease, scored=3)
    events, job = server.jobs.events(lease.job_id), server.jobs.get(lease.job_id)
    monkeypatch.setenv("ROPEWALK_DATABASE_URL", server.database.url)
    file = tmp_path / "backups" / "all.dump"
    told = _json(capsys, "db", "dump", str(file))
    assert told == {"path": str(file), "bytes": file.stat().st_size}
    assert [path.name for path in file.parent.iterdir()] == ["all.dump"]
    assert "without tables" in _run(capsys, "db", "restore", str(file), code=2)
    assert server.jobs.get(lease.job_id) == job
    monkeypatch.setenv("ROPEWALK_DATABASE_URL", empty_database_url)
    (tmp_path / "half.dump").write_bytes(file.read_bytes()[: told["bytes"] // 2])
    for name, code in (("half.dump", 1), ("spec.json", 1), ("nowhere", 2)):
        (tmp_path / "spec.json").write_text("{}")
        assert _run(capsys, "db", "restore", str(tmp_path / name), code=code).count("\n") == 1
    assert _json(capsys, "db", "restore", str(file)) == {"status": "restored"}
    with closing(Database(empty_database_url)) as restored:
        restored.check()
        assert JobStore(restored).get(lease.job_id) == job
        assert JobStore(restored).events(lease.job_id) == events
        trials, before = (StudyRecord(one, lease.job_id).trials() for one in (restored, server.database))
        assert trials == before
        assert len(trials) == 8


def test_a_database_that_cannot_be_reached(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_DATABASE_URL", f"postgresql://u:hunter2@127.0.0.1:{free_port()}/none")
    for arguments in (["db", "upgrade"], ["keys", "list"], ["serve", "--port", str(free_port())]):
        told = _run(capsys, *arguments, code=1)
        assert "127.0.0.1" in told
        assert "hunter2" not in told
        assert told.count("\n") == 1


def test_a_log_tells_once_why_a_job_waits(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    lease = claimed_search(server.jobs)
    waits = Condition(type="WorkersReady", status=False, reason="LoadingModel", message="1 of 1 workers load the model")
    server.jobs.set_conditions(lease, waits)
    with server.client() as client:
        log = live._Lines(client, lease.job_id, Console(stderr=True))
        log._show(next(client.snapshots(lease.job_id)))
        log._show_events()
    told = capsys.readouterr().err
    assert told.count("1 of 1 workers load the model") == 1
    assert "reaches the database" in told
    assert "state.changed" in told


def test_the_clock_of_a_bar_goes_on_while_the_job_does(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    server.jobs.update_progress(lease, Progress(stage="searching", fraction=1.0))  # validation comes yet
    with server.client() as client:
        watch = live._Bars(client, lease.job_id, Console())
        watch._show(next(client.snapshots(lease.job_id)))
    assert not watch._bars.finished
