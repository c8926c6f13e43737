"""The database's password and API keys are in nothing that the server says, logs, shows or counts."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest
import sqlalchemy as sa

from api.cli import run
from api.settings import load_settings
from ropewalk.client.sync import Client
from storage.postgres.database import Database
from tests.helpers.http_server import (
    POCKET_SPEC,
    RunningServer,
    add_trials,
    claimed_search,
    finish_search,
    running_server,
)
from tests.helpers.waiting import free_port

PASSWORD = "pa55w0rd-of-the-database"
PATHS = (
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/v1/searches",
    "/v1/finetunes",
    "/v1/evaluations",
    "/v1/searches/{id}",
    "/v1/searches/{id}/trials?view=full",
    "/v1/searches/{id}/scores",
    "/v1/searches/{id}/events",
    "/v1/searches/{id}/factors",
    "/v1/searches/{id}/pictures",
    "/v1/searches/{id}?key={key}",
    "/v1/nothing/{key}",
    "/dashboard",
    "/api/studies",
    "/api/studies/1",
    "/api/meta",
)


@pytest.fixture
def guarded(database_url: str) -> Iterator[RunningServer]:
    """A server with keys, whose database has a password in its URL; the test's own PostgreSQL does not ask for it."""
    url = sa.make_url(database_url).set(password=PASSWORD).render_as_string(hide_password=False)
    with closing(Database(url)) as database, running_server(database, host="0.0.0.0") as running:
        yield running


def _everything_logged(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join([caplog.text, *(str(record.__dict__) for record in caplog.records)])


def _told(response: httpx.Response) -> str:
    return f"{response.headers}\n{response.text}"


def test_neither_answers_nor_logs_hold_a_secret(guarded: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("ropewalk", "sqlalchemy.engine", "uvicorn", "optuna"):
        caplog.set_level(logging.DEBUG, logger=name)
    lease = claimed_search(guarded.jobs)
    add_trials(guarded.database, lease, scored=3)
    finish_search(guarded.jobs, lease)
    key = guarded.keys.create("someone", ["admin"])
    secret = key.split("_", 2)[2]
    told: list[str] = []
    for headers in ({"Authorization": f"Bearer {key}"}, {"Authorization": f"Bearer {key}x"}, {}):
        with httpx.Client(base_url=guarded.url, headers=headers, timeout=60, verify=False) as http:
            told += [_told(http.get(path.format(id=lease.job_id, key=""))) for path in PATHS]
            told.append(_told(http.post("/v1/searches", json={**POCKET_SPEC, "target_length": 1})))
            told.append(_told(http.post("/v1/searches", json=POCKET_SPEC, headers={"Idempotency-Key": "once"})))
            told.append(_told(http.post(f"/v1/searches/{lease.job_id}:cancel")))
    everything = "\n".join([*told, _everything_logged(caplog), repr(guarded.database), repr(guarded.keys)])
    assert lease.job_id in everything
    for hidden in (PASSWORD, key, secret):
        assert hidden not in everything


def test_a_database_that_is_away_does_not_tell_its_password(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"postgresql://someone:{PASSWORD}@127.0.0.1:{free_port()}/ropewalk"
    with closing(Database(url)) as database, running_server(database) as server, server.http as http:
        told = [_told(http.get(path)) for path in ("/readyz", "/v1/searches", "/metrics", "/dashboard", "/api/studies")]
    assert '"status":503' in told[0]
    monkeypatch.setenv("ROPEWALK_DATABASE_URL", url)
    for arguments in (["doctor"], ["doctor", "--json"], ["db", "upgrade"], ["keys", "list"]):
        assert run(arguments) != 0
    told.extend(capsys.readouterr())
    assert PASSWORD not in "\n".join([*told, _everything_logged(caplog), repr(load_settings()), str(load_settings())])


@pytest.mark.parametrize("name", ["ROPEWALK_DATABASE_URL", "ROPEWALK_API_KEY"])
def test_a_setting_that_breaks_its_rule_is_told_without_its_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, f"mysql://someone:{PASSWORD}@host/x")
    monkeypatch.setenv("ROPEWALK_URL", f"http://127.0.0.1:{free_port()}")
    assert run(["list"]) != 0
    assert PASSWORD not in "".join(capsys.readouterr())


def test_the_client_does_not_show_its_key(guarded: RunningServer) -> None:
    key = guarded.keys.create("someone", ["read"])
    with Client(guarded.url, key=key) as client:
        assert key not in json.dumps({name: repr(value) for name, value in vars(client).items()}) + repr(client)
