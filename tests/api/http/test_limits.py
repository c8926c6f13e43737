"""How often and how much: requests by key, wrong keys by address, sizes by field."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from limits import RateLimitItemPerYear
from starlette.datastructures import Headers

from api.errors import TooManyRequests, Unauthenticated
from api.http.auth import VERIFIED_AT_ONCE, Gatekeeper
from api.rate_limits import FAILURES, RateLimits, parse_rate
from storage.api_keys import ApiKeys
from storage.postgres.database import Database
from storage.records import ApiKey
from tests.helpers.http_server import POCKET_SPEC, RunningServer, running_server


@pytest.fixture
def guarded(database: Database) -> Iterator[RunningServer]:
    """A server that other machines could reach, with few requests allowed."""
    with running_server(database, host="0.0.0.0", rate_limit="5/hour") as running:
        yield running


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _assert_too_many(response: httpx.Response) -> None:
    assert response.status_code == 429
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["code"], problem["detail"]) == ("TOO_MANY_REQUESTS", "at most 5 requests per hour are answered")
    assert 0 < int(response.headers["retry-after"]) <= 3600


def test_requests_are_counted_by_key(guarded: RunningServer) -> None:
    one, other = (_bearer(guarded.keys.create(name, ["read"])) for name in ("one", "other"))
    with guarded.http as http:
        assert [http.get("/v1/searches", headers=one).status_code for _ in range(5)] == [200] * 5
        _assert_too_many(http.get("/v1/searches", headers=one))
        _assert_too_many(http.get("/dashboard", headers=one))
        assert http.get("/v1/searches", headers=other).status_code == 200


def test_without_a_key_they_are_counted_by_address(guarded: RunningServer) -> None:
    with guarded.http as http:
        assert [http.get(path).status_code for path in ("/healthz", "/readyz", "/v1/searches")] == [200, 200, 401]
        assert [http.get("/healthz").status_code for _ in range(2)] == [200, 200]
        _assert_too_many(http.get("/healthz"))
        _assert_too_many(http.get("/v1/searches"))
        key = _bearer(guarded.keys.create("someone", ["read"]))
        assert http.get("/v1/searches", headers=key).status_code == 200


def test_the_operator_on_loopback_is_not_counted(database: Database) -> None:
    with running_server(database, rate_limit="2/hour") as server, server.http as http:
        assert {http.get(path).status_code for path in ("/healthz", "/v1/searches") for _ in range(4)} == {200}


def test_wrong_keys_are_counted_by_address_before_they_are_hashed(database: Database) -> None:
    keys = ApiKeys(database)
    # By the year: hashing takes its time on a busy machine, and no minute shall end on the way.
    limits = RateLimits(None, failures=RateLimitItemPerYear(FAILURES.amount))
    gate = Gatekeeper(keys, host="0.0.0.0", limits=limits)
    right = Headers(_bearer(keys.create("someone", ["read"])))
    gate.admit("GET", "/v1/searches", right, address="nat")
    wrong = Headers(_bearer("rw_x_y"))
    for _ in range(FAILURES.amount):
        with pytest.raises(Unauthenticated):
            gate.admit("GET", "/v1/searches", wrong, address="nat")
    keys.verify = lambda token: pytest.fail("hashed")  # type: ignore[method-assign]
    with pytest.raises(TooManyRequests, match="at most 20 wrong API keys per year") as refused:
        gate.admit("GET", "/v1/searches", wrong, address="nat")
    assert refused.value.retry_after_seconds >= 1
    assert gate.admit("GET", "/v1/searches", right, address="nat").may("read"), "who is known stays in"


def test_few_keys_are_hashed_at_once(database: Database) -> None:
    """Each takes 16 MiB: a flood of wrong keys must not take the memory."""
    at_once, most, lock = 0, 0, threading.Lock()
    release = threading.Event()

    class Counting(ApiKeys):
        def verify(self, token: str) -> ApiKey | None:
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
                if at_once == VERIFIED_AT_ONCE:
                    release.set()
            assert release.wait(10)
            with lock:
                at_once -= 1
            return None

    gate = Gatekeeper(Counting(database), host="0.0.0.0", limits=RateLimits(None))

    def knock(number: int) -> None:
        with pytest.raises(Unauthenticated):
            gate.admit("GET", "/v1/searches", Headers(_bearer(f"rw_{number}_x")), address=str(number))

    threads = [threading.Thread(target=knock, args=(number,)) for number in range(3 * VERIFIED_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == VERIFIED_AT_ONCE


def test_a_rate_is_a_number_per_period() -> None:
    assert str(FAILURES) == "20 per 1 minute"
    assert parse_rate("off") is None
    with pytest.raises(ValueError, match="often"):
        parse_rate("often")
    RateLimits(None).count_request("anybody")
    limits = RateLimits(parse_rate("2 per 3 minutes"))
    limits.count_request("one")
    limits.count_request("one")
    with pytest.raises(TooManyRequests, match="at most 2 requests per 3 minutes are answered"):
        limits.count_request("one")


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/v1/searches", {"labels": {f"key{number}": "x" for number in range(33)}}),
        ("/v1/searches", {"labels": {"key": "x" * 201}}),
        ("/v1/searches", {"labels": {"k" * 201: "x"}}),
        ("/v1/searches", {"target_length": 2**40}),
        ("/v1/searches", {"target_length": 10**400}),
        ("/v1/searches", {"model": "x" * 1025}),
        ("/v1/searches", {"objective": {"corpus": "x" * 4097}}),
        ("/v1/searches", {"objective": {"documents": 10_001}}),
        ("/v1/searches", {"budget": {"max_document_passes": 10**300}}),
        ("/v1/searches", {"budget": {"patience": 10**300}}),
        ("/v1/searches", {"strategy": {"name": "x" * 65}}),
        ("/v1/searches", {"strategy": {"name": "evolution", "wishes": "x" * 10_001}}),
        ("/v1/searches", {"strategy": {"name": "evolution", "wishes": _deep(600)}}),
        ("/v1/searches", {"workers": 4097}),
        ("/v1/evaluations", {"lengths": [512] * 17}),
        ("/v1/evaluations", {"tasks": ["vt"] * 65}),
        ("/v1/evaluations", {"harness": ["task"] * 65}),
        ("/v1/evaluations", {"harness": ["../../tasks.yaml"]}),
        ("/v1/evaluations", {"search_id": "s" * 65}),
        ("/v1/finetunes", {"factors": {"format": _deep(600)}}),
        ("/v1/finetunes", {"search_id": "srch_x", "settings": {"clip": 1e300}}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_what_is_too_much_is_refused(quiet_server: RunningServer, path: str, change: dict[str, object]) -> None:
    bases: dict[str, dict[str, object]] = {"/v1/searches": POCKET_SPEC, "/v1/evaluations": {"target_length": 1024}}
    with quiet_server.http as http:
        response = http.post(path, json=bases.get(path, {}) | change)
    assert response.status_code == 422, response.text[:500]
    assert response.json()["code"] in ("VALIDATION_FAILED", "INVALID_SPEC")
    assert len(response.content) < 100_000


def test_endless_nesting_is_malformed(quiet_server: RunningServer) -> None:
    body = json.dumps(POCKET_SPEC)[:-1] + ', "strategy": ' + "[" * 1_000_000
    with quiet_server.http as http:
        response = http.post("/v1/searches", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
