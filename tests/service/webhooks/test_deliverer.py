"""Changes of states are told to a real receiver: signed, once and again until it takes them, and to nobody else."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ropewalk.wire.kinds import JobState
from service.webhooks import sending
from service.webhooks.addresses import networks_of
from service.webhooks.deliverer import Backoff, Deliverer
from service.webhooks.desk import WebhookDesk
from storage.deliveries import Delivery
from storage.jobs.deletion import Deletion
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.webhooks import Webhooks
from tests.helpers.http_server import SPEC_JSON, claimed_search
from tests.helpers.receiver import Received, receiver
from tests.helpers.waiting import wait_until

LOOPBACK = networks_of("127.0.0.0/8,::1/128")
SOON = Backoff(attempts=4, first_seconds=0.05, factor=1.0)
ENDS = (JobState.succeeded, JobState.failed, JobState.cancelled)
PROCESS = """
import sys, threading
from service.webhooks.addresses import networks_of
from service.webhooks.deliverer import Deliverer
from storage.postgres.database import Database
with Deliverer(Database(sys.argv[1]), allowed=networks_of("127.0.0.0/8"), claim_seconds=2.0):
    threading.Event().wait()
"""


@contextmanager
def delivering(database: Database, **settings: Any) -> Iterator[None]:
    given: dict[str, Any] = {"allowed": LOOPBACK, "backoff": SOON, "poll_seconds": 0.05, **settings}
    with Deliverer(database, **given):
        yield


def desk(database: Database) -> WebhookDesk:
    return WebhookDesk(database, allowed=LOOPBACK)


def made(database: Database, url: str, owner: str = "key:a", every_job: bool = False) -> tuple[str, bytes]:
    webhook, shown = desk(database).create(owner, url, ENDS, every_job=every_job)
    assert shown.startswith("whsec_")
    return webhook.id, base64.b64decode(shown.removeprefix("whsec_"))


def cancelled(database: Database, owner: str | None = "key:a") -> str:
    jobs = JobStore(database)
    job_id = jobs.create("search", SPEC_JSON, [("team", "nlp")], creator=owner).job.id
    jobs.request(job_id, "cancel")
    return job_id


def last(database: Database, webhook_id: str) -> Delivery:
    return Webhooks(database).deliveries(webhook_id, None)[0]


def ended(database: Database, webhook_id: str) -> bool:
    return last(database, webhook_id).delivered is not None


def check_signature(one: Received, secret: bytes) -> None:
    """As a receiver does, by the text of the standard."""
    signed = f"{one.headers['webhook-id']}.{one.headers['webhook-timestamp']}.".encode() + one.body
    mine = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    assert one.headers["webhook-signature"] == f"v1,{mine}"


def test_the_signature_is_that_of_the_standards_example() -> None:
    """https://github.com/standard-webhooks/standard-webhooks, its reference implementations' test."""
    from service.webhooks.message import signature

    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    told = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert told == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_end_is_told_once_and_signed(database: Database) -> None:
    with receiver() as there, delivering(database):
        webhook_id, secret = made(database, there.url)
        job_id = cancelled(database)
        wait_until(lambda: ended(database, webhook_id))
    one = there.received[0]
    check_signature(one, secret)
    assert len(there.received) == 1
    assert one.path == "/hook?a=b"
    assert one.headers["host"] == there.url.split("/")[2]
    body = json.loads(one.body)
    event = [event for event in JobStore(database).events(job_id) if event.type == "state.changed"][-1]
    assert body["type"] == "search.cancelled"
    assert body["data"] == {
        "id": job_id,
        "kind": "search",
        "state": "cancelled",
        "previous_state": "queued",
        "event_id": event.id,
        "labels": {"team": "nlp"},
        "error_code": None,
    }
    told = last(database, webhook_id)
    assert (told.delivered, told.attempts, told.status, told.reason) == (True, 1, 204, None)


def test_a_receiver_that_fails_first_gets_it_again_under_the_same_id(database: Database) -> None:
    with receiver(500, 302, 200) as there, delivering(database):
        webhook_id, secret = made(database, there.url)
        cancelled(database)
        wait_until(lambda: ended(database, webhook_id))
    assert len(there.received) == 3
    assert len({(one.headers["webhook-id"], one.body) for one in there.received}) == 1
    for one in there.received:
        check_signature(one, secret)
    assert (last(database, webhook_id).delivered, last(database, webhook_id).attempts) == (True, 3)


def test_attempts_are_bounded_and_the_last_reason_stays(database: Database) -> None:
    with receiver(503) as there, delivering(database):
        webhook_id, _ = made(database, there.url)
        cancelled(database)
        wait_until(lambda: ended(database, webhook_id))
    told = last(database, webhook_id)
    assert (told.delivered, told.attempts, told.status) == (False, 4, 503)
    assert told.reason == "the receiver answered 503"
    assert len(there.received) == 4


def test_nobody_listens(database: Database) -> None:
    with receiver() as there:
        url = there.url
    webhook_id, _ = made(database, url)
    with delivering(database):
        cancelled(database)
        wait_until(lambda: ended(database, webhook_id))
    assert "ConnectError" in (last(database, webhook_id).reason or "")


def test_gone_ends_the_webhook(database: Database) -> None:
    with receiver(410) as there, delivering(database):
        webhook_id, _ = made(database, there.url)
        cancelled(database)
        wait_until(lambda: desk(database).get(webhook_id, None).ended_at is not None)
        cancelled(database)
    assert len(desk(database).deliveries(webhook_id, None)) == 1


def test_redirects_lead_nowhere(database: Database) -> None:
    with receiver() as inside, receiver(307, headers={"location": inside.url}) as there, delivering(database):
        webhook_id, _ = made(database, there.url)
        cancelled(database)
        wait_until(lambda: ended(database, webhook_id))
    assert inside.received == []
    assert last(database, webhook_id).reason == "the receiver answered 307; redirects are not followed"


def test_a_name_that_leads_elsewhere_later_is_not_called(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was public when the webhook was made is the operator's own network now."""
    with receiver() as there:
        real = socket.getaddrinfo
        public = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 443))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: public)
        webhook, _ = WebhookDesk(database, allowed=()).create("key:a", there.url, ENDS, every_job=False)
        monkeypatch.setattr(socket, "getaddrinfo", real)
        cancelled(database)
        with delivering(database, allowed=()):
            wait_until(lambda: ended(database, webhook.id))
        assert there.received == []
    assert "must lead to the public internet" in (last(database, webhook.id).reason or "")


def test_the_connection_goes_to_the_address_that_was_checked(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name resolves to the receiver for the check, and to nothing for whoever asks again."""
    with receiver() as there:
        port = int(there.url.split(":")[2].split("/")[0])
        answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]]
        asked: list[str] = []
        real = socket.getaddrinfo

        def once(host: str, *args: Any, **kwargs: Any) -> Any:
            if host != "receiver.example":
                return real(host, *args, **kwargs)
            asked.append(host)
            return answers[0]

        monkeypatch.setattr(socket, "getaddrinfo", once)
        webhook_id, _ = made(database, f"http://receiver.example:{port}/x")
        with delivering(database):
            cancelled(database)
            wait_until(lambda: ended(database, webhook_id))
        assert there.received[0].headers["host"] == f"receiver.example:{port}"
        assert len(asked) == 2, "once when it was made and once when it was called"


def test_a_receiver_that_answers_byte_by_byte_is_left(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "ANSWER_SECONDS", 1.0)
    with receiver(drip=True) as there, delivering(database, backoff=Backoff(attempts=1)):
        webhook_id, _ = made(database, there.url)
        cancelled(database)
        wait_until(lambda: ended(database, webhook_id))
    assert last(database, webhook_id).reason == "the receiver did not answer within 1 s"


def test_who_is_told_of_what(database: Database) -> None:
    own, _ = made(database, "http://127.0.0.1:9/own")
    other, _ = made(database, "http://127.0.0.1:9/other", owner="key:b")
    boss, _ = made(database, "http://127.0.0.1:9/all", owner="key:boss", every_job=True)
    mine, nobodys = cancelled(database), cancelled(database, owner=None)
    jobs, lease = JobStore(database), claimed_search(JobStore(database))
    jobs.transition(lease, JobState.validating)
    told = {one: [item.job_id for item in desk(database).deliveries(one, None)] for one in (own, other, boss)}
    assert told == {own: [mine], other: [], boss: [nobodys, mine]}, "states that were not asked for are not told"


def test_a_fine_tuning_is_its_searchs_owners(database: Database) -> None:
    own, _ = made(database, "http://127.0.0.1:9/own")
    jobs = JobStore(database)
    jobs.create("search", SPEC_JSON, creator="key:a")
    claimed = jobs.claim("test", 60)
    assert claimed is not None
    for state in (JobState.preparing, JobState.searching, JobState.validating):
        jobs.transition(claimed[1], state)
    child = jobs.hand_off(claimed[1], "{}", "{}")
    jobs.request(child.id, "cancel")
    assert {item.job_id for item in desk(database).deliveries(own, None)} == {child.id, claimed[0].id}


def test_a_job_of_an_older_version_gets_its_owner_by_its_event(database: Database) -> None:
    """Of an API process that has not been replaced yet: it knows no owners."""
    own, _ = made(database, "http://127.0.0.1:9/own")
    with database.engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO ropewalk.jobs (id, kind, spec_json) VALUES ('srch_old', 'search', '{}')")
        )
        connection.execute(
            sa.text(
                "INSERT INTO ropewalk.events (job_id, type, data_json) "
                """VALUES ('srch_old', 'job.created', '{"kind":"search","creator":"key:a"}')"""
            )
        )
    JobStore(database).request("srch_old", "cancel")
    assert [item.job_id for item in desk(database).deliveries(own, None)] == ["srch_old"]


def test_what_is_rolled_back_is_not_told(database: Database) -> None:
    webhook_id, _ = made(database, "http://127.0.0.1:9/")
    lease = claimed_search(JobStore(database))
    with database.engine.connect() as connection:
        connection.execute(
            sa.text("INSERT INTO ropewalk.events (job_id, type, data_json) VALUES (:id, 'state.changed', :data)"),
            {"id": lease.job_id, "data": '{"from":"queued","to":"cancelled"}'},
        )
        connection.rollback()
    assert desk(database).deliveries(webhook_id, None) == ()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not installed")
def test_the_certificate_must_be_that_of_the_name(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    make += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with receiver(context=context) as there:
        for trusted, url in (
            (False, there.url),
            (True, there.url),
            (True, there.url.replace("localhost", "127.0.0.1")),
        ):
            if trusted:
                monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            webhook_id, _ = made(database, url, owner=os.urandom(4).hex(), every_job=True)
            with delivering(database, backoff=Backoff(attempts=1)):
                cancelled(database)
                wait_until(functools.partial(ended, database, webhook_id))
            right = trusted and "localhost" in url
            assert last(database, webhook_id).delivered is right
            assert right or "CERTIFICATE_VERIFY_FAILED" in (last(database, webhook_id).reason or "").upper()
            desk(database).end(webhook_id, None, actor="a")


def test_deliveries_go_with_their_job(database: Database) -> None:
    webhook_id, _ = made(database, "http://127.0.0.1:9/")
    Deletion(database).delete(cancelled(database), actor="a")
    assert desk(database).deliveries(webhook_id, None) == ()
    assert Webhooks(database).claim(limit=8, seconds=1.0) == ()


def test_of_many_deliverers_one_delivers(database: Database) -> None:
    with receiver() as there, delivering(database), delivering(database), delivering(database):
        webhook_id, _ = made(database, there.url)
        for _ in range(30):
            cancelled(database)
        wait_until(lambda: all(one.delivered for one in desk(database).deliveries(webhook_id, None)))
    assert len(there.received) == 30
    assert len({one.headers["webhook-id"] for one in there.received}) == 30


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_delivers_is_replaced(database: Database) -> None:
    came, go_on = threading.Event(), threading.Event()

    def stall() -> None:
        came.set()
        go_on.wait(60)

    with receiver(before=stall) as there:
        webhook_id, _ = made(database, there.url)
        cancelled(database)
        process = subprocess.Popen([sys.executable, "-c", PROCESS, database.url])
        try:
            assert came.wait(60)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        go_on.set()
        assert last(database, webhook_id).delivered is None
        with delivering(database):
            wait_until(lambda: ended(database, webhook_id))
    assert len(there.received) == 2
    assert len({one.headers["webhook-id"] for one in there.received}) == 1
