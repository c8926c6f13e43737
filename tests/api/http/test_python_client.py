"""The two Python clients against a real server: the same answers, one of them awaited."""

from __future__ import annotations

import asyncio
import inspect
import io
import sys
import threading
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

import ropewalk
from ropewalk.client import progress as progress_lines
from ropewalk.client.asynchronous import AsyncClient
from ropewalk.client.errors import ApiError, ServerUnreachable
from ropewalk.client.progress import Moment, ProgressBar, ProgressLines
from ropewalk.client.sync import Client
from ropewalk.version import ROPEWALK_VERSION
from ropewalk.wire.jobs import ProgressResource
from tests.helpers.http_server import (
    POCKET_SPEC,
    RunningServer,
    add_trials,
    claimed_search,
    factor_file,
    finish_search,
    running_server,
)
from tests.helpers.waiting import free_port


def _public(of: type) -> dict[str, str]:
    return {
        name: str(inspect.signature(value)).replace("AsyncIterator", "Iterator")
        for name, value in inspect.getmembers(of, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_clients_have_the_same_calls() -> None:
    assert _public(AsyncClient) == _public(Client)
    assert _public(Client)["cancel"] == "(self, job_id: str) -> ropewalk.wire.jobs.JobResource"


def test_one_client_blocks_and_the_other_is_awaited() -> None:
    assert inspect.iscoroutinefunction(AsyncClient.cancel)
    assert not inspect.iscoroutinefunction(Client.cancel)


def test_a_search_from_submission_to_factors(server: RunningServer) -> None:
    async def run() -> None:
        async with AsyncClient(server.url) as client:
            submitted = await client.submit(POCKET_SPEC)
            assert (await client.get(submitted.id)).state == "queued"
            assert [job.id for job in (await client.jobs()).items] == [submitted.id]
            assert (await client.cancel(submitted.id)).state == "cancelled"
            lease = claimed_search(server.jobs)
            count = add_trials(server.database, lease, scored=3)
            assert [trial.number async for trial in client.trials(lease.job_id)] == list(range(count))
            assert len((await client.scores(lease.job_id)).items) == 6
            assert (await client.pictures(lease.job_id)).target_length == 1024
            finish_search(server.jobs, lease)
            assert [event.id async for event in client.watch(lease.job_id)] == [
                event.id for event in server.jobs.events(lease.job_id)
            ]
            assert (await client.wait(lease.job_id)).state == "succeeded"
            assert (await client.factors(lease.job_id)).file == factor_file()
            assert (await client.export(lease.job_id, format="csv")).startswith("pair,")
            assert client.server_version == ROPEWALK_VERSION

    asyncio.run(run())


def test_a_refusal_has_code_detail_and_pointer(quiet_server: RunningServer) -> None:
    with quiet_server.client() as client, pytest.raises(ApiError) as refused:
        client.submit({**POCKET_SPEC, "target_length": "long"})
    found = refused.value
    assert (found.status, found.code, found.pointer) == (422, "VALIDATION_FAILED", "/target_length")
    assert found.detail
    assert isinstance(refused.value, ropewalk.RopewalkError)


def test_an_awaited_stream_goes_on_after_a_restart_of_the_server(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    seen: list[int] = []

    async def read(url: str, first: threading.Event) -> None:
        async with AsyncClient(url) as client:
            async for event in client.watch(lease.job_id):
                seen.append(event.id)
                first.set()

    begun = threading.Event()
    with running_server(server.database) as first:
        url, port = first.url, int(first.url.rpartition(":")[2])
        reader = threading.Thread(target=_run, args=(read(url, begun),))
        reader.start()
        assert begun.wait(30)
    server.jobs.append_event(lease, "tick", "{}")
    with running_server(server.database, port=port):
        finish_search(server.jobs, lease)
        reader.join(timeout=60)
    assert seen == [event.id for event in server.jobs.events(lease.job_id)]


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_nobody_there_is_said_at_once() -> None:
    url = f"http://127.0.0.1:{free_port()}"

    async def wait() -> None:
        async with AsyncClient(url) as client:
            await client.wait("srch_1")

    with pytest.raises(ServerUnreachable, match=url):
        asyncio.run(wait())
    with Client(url) as client, pytest.raises(ServerUnreachable, match=url):
        client.wait("srch_1")


def test_waiting_has_an_end(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    with server.client() as client, pytest.raises(TimeoutError, match=f"{lease.job_id} must end within 0.1 s"):
        client.wait(lease.job_id, timeout_seconds=0.1)


def test_the_environment_names_server_and_key(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    key = server.keys.create("somebody", ["read"])
    monkeypatch.setenv("ROPEWALK_URL", server.url)
    monkeypatch.setenv("ROPEWALK_API_KEY", key)
    with Client() as client:
        assert client.url == server.url
        assert client.jobs().items == []
    with Client(key="") as client, pytest.raises(ApiError) as refused:
        client.jobs()
    assert refused.value.code == "UNAUTHENTICATED"


def test_a_bar_is_one_line_in_a_notebook_too(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = claimed_search(server.jobs)
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    with server.client() as client, ProgressBar(lease.job_id) as bar:
        bar.show(client.get(lease.job_id))
        bar.show(None)
    told = capsys.readouterr()
    assert told.err == ""
    assert [line.split()[0] for line in told.out.split("\r")[1:]] == [lease.job_id] * 2
    assert told.out.endswith("\n")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_one_line_in_a_terminal_and_few_in_a_log(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lease = claimed_search(server.jobs)
    terminal, log = _Terminal(), io.StringIO()
    with server.client() as client, ProgressBar("x", stream=terminal) as bar, ProgressBar("x", stream=log) as lines:
        job = client.get(lease.job_id)
        finish_search(server.jobs, lease)
        for shown in (job, None, client.get(lease.job_id)):
            for one in (bar, lines, bar, lines):
                one.show(shown)
    assert terminal.getvalue().count("\n") == 1
    assert max(len(line) for line in terminal.getvalue().split("\r")) <= 60
    first, away, last = log.getvalue().splitlines()
    assert "searching" in first
    assert away.endswith("x  waiting for the server")
    assert "succeeded" in last
    assert "100 %" in last


def test_a_quiet_log_says_the_same_again_and_wraps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setenv("COLUMNS", "60")
    lines = ProgressLines("x" * 300, log)
    progress = ProgressResource(stage="searching", document_passes=5, total_document_passes=10)
    moment = Moment(kind="search", state="searching", progress=progress, done=0.5)
    lines.show(moment)
    lines.show(moment)
    monkeypatch.setattr(progress_lines, "QUIET_SECONDS", 0.0)
    lines.show(moment)
    told = [line.split(" ", 1)[1] for line in log.getvalue().splitlines()]
    assert told == ["x" * 300 + "  searching  50 %  5/10 passes"] * 2
