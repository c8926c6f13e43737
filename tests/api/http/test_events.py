"""A job's history: JSON by polling, and a stream that resumes and ends."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from ropewalk.client.errors import ApiError
from ropewalk.wire.kinds import JobState
from tests.helpers.http_server import RunningServer, claimed_search, finish_search, running_server

STREAM = {"Accept": "text/event-stream"}


def _events(server: RunningServer, job_id: str, headers: dict[str, str] | None = None) -> Iterator[ServerSentEvent]:
    with (
        server.http as http,
        connect_sse(http, "GET", f"/v1/searches/{job_id}/events", headers=headers or {}) as source,
    ):
        assert source.response.status_code == 200
        yield from source.iter_sse()


def test_json_by_polling(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    server.jobs.append_event(lease, "best.improved", json.dumps({"nll": 0.5}))
    with server.client() as client:
        page = client.event_list(lease.job_id)
        assert page.items[-1].type == "best.improved"
        assert page.items[-1].data == {"nll": 0.5}
        assert page.next_after == page.items[-1].id
        assert [event.id for event in page.items] == sorted(event.id for event in page.items)
        later = client.event_list(lease.job_id, after=page.next_after)
    assert later.items == []
    assert later.next_after == page.next_after


def test_the_stream_holds_everything_and_ends_with_the_job(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    finish_search(server.jobs, lease)
    stored = server.jobs.events(lease.job_id)
    events = list(_events(server, lease.job_id))
    assert [event.id for event in events] == [str(event.id) for event in stored]
    assert [event.event for event in events] == [event.type for event in stored]
    assert json.loads(events[-1].data)["id"] == stored[-1].id
    assert "succeeded" in events[-1].data


def test_the_stream_delivers_what_happens_while_it_is_open(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    seen: list[str] = []
    first = threading.Event()

    def read() -> None:
        for event in _events(server, lease.job_id):
            seen.append(event.event)
            first.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert first.wait(10)
    server.jobs.append_event(lease, "best.improved", "{}")
    finish_search(server.jobs, lease)
    reader.join(timeout=10)
    assert not reader.is_alive(), "the stream ends after the terminal event"
    assert "best.improved" in seen
    assert len(seen) == len(server.jobs.events(lease.job_id))


def test_last_event_id_resumes_without_loss_or_repetition(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    for index in range(10):
        server.jobs.append_event(lease, "tick", json.dumps({"index": index}))
    stream = _events(server, lease.job_id)
    seen = [next(stream) for _ in range(5)]
    stream.close()  # type: ignore[attr-defined]  # the connection breaks here
    finish_search(server.jobs, lease)
    seen += _events(server, lease.job_id, {"Last-Event-ID": seen[-1].id})
    assert [int(event.id) for event in seen] == [event.id for event in server.jobs.events(lease.job_id)]


def test_nothing_after_the_end_tells_browsers_to_stop(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    finish_search(server.jobs, lease)
    last = server.jobs.events(lease.job_id)[-1].id
    with server.http as http:
        path = f"/v1/searches/{lease.job_id}/events"
        assert http.get(path, headers={**STREAM, "Last-Event-ID": str(last)}).status_code == 204
        bad = http.get(path, headers={**STREAM, "Last-Event-ID": "yesterday"})
    assert bad.status_code == 400


def test_a_stream_keeps_quiet_connections_alive(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.http.sse.KEEP_ALIVE_SECONDS", 0.2)
    lease = claimed_search(server.jobs)
    with (
        server.http as http,
        http.stream("GET", f"/v1/searches/{lease.job_id}/events", headers=STREAM) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        assert any(line.startswith(": ping") for line in response.iter_lines())


def test_many_streams_do_not_starve_the_other_routes(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    limits = httpx.Limits(max_connections=None)
    with (
        httpx.Client(base_url=server.url, headers=server.operator, timeout=30, limits=limits, verify=False) as http,
        ExitStack() as streams,
    ):
        path = f"/v1/searches/{lease.job_id}/events"
        for _ in range(60):  # more than the routes have threads
            response = streams.enter_context(http.stream("GET", path, headers=STREAM))
            assert response.status_code == 200
        assert http.get(f"/v1/searches/{lease.job_id}").json()["state"] == "searching"


def test_the_client_goes_on_after_a_restart_of_the_server(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    seen: list[int] = []
    errors: list[Exception] = []

    def read(url_server: RunningServer) -> None:
        try:
            with url_server.client() as client:
                seen.extend(event.id for event in client.watch(lease.job_id))
        except Exception as error:
            errors.append(error)

    with running_server(server.database) as first:
        port = int(first.url.rpartition(":")[2])
        reader = threading.Thread(target=read, args=(first,))
        reader.start()
        time.sleep(0.5)
    server.jobs.append_event(lease, "tick", "{}")
    with running_server(server.database, port=port):
        time.sleep(0.5)
        finish_search(server.jobs, lease)
        reader.join(timeout=20)
        assert not reader.is_alive()
    assert errors == []
    assert seen == [event.id for event in server.jobs.events(lease.job_id)], "each event once, none lost"


def test_the_client_waits_for_the_end(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    ender = threading.Timer(0.5, finish_search, (server.jobs, lease))
    ender.start()
    with server.client() as client:
        assert client.wait(lease.job_id).state is JobState.succeeded
    ender.join()


def test_the_client_tells_an_unknown_job_at_once(server: RunningServer) -> None:
    with server.client() as client, pytest.raises(ApiError) as refused:
        next(client.watch("srch_none"))
    assert refused.value.status == 404
