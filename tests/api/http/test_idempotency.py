"""One Idempotency-Key, one job: replayed, refused with another body, and under many requests at once."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.helpers.http_server import POCKET_SPEC, RunningServer, running_server

KEY = {"Idempotency-Key": "order-1"}


def test_a_replay_returns_the_first_job(server: RunningServer) -> None:
    with server.http as http:
        first = http.post("/v1/searches", json=POCKET_SPEC, headers=KEY)
        server.jobs.request(first.json()["id"], "pause")
        again = http.post("/v1/searches", json=POCKET_SPEC, headers=KEY)
        assert (first.status_code, again.status_code) == (202, 202)
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["location"] == first.headers["location"]
        assert len(http.get("/v1/searches").json()["items"]) == 1


def test_spelling_the_defaults_out_is_the_same_request(server: RunningServer) -> None:
    with server.http as http:
        first = http.post("/v1/searches", json=POCKET_SPEC, headers=KEY)
        again = http.post("/v1/searches", json={"seed": 0, "workers": 1, **POCKET_SPEC}, headers=KEY)
    assert again.json()["id"] == first.json()["id"]


def test_another_body_or_another_collection_is_refused(server: RunningServer) -> None:
    with server.http as http:
        http.post("/v1/searches", json=POCKET_SPEC, headers=KEY)
        other = http.post("/v1/searches", json={**POCKET_SPEC, "seed": 1}, headers=KEY)
        elsewhere = http.post("/v1/evaluations", json={"target_length": 1024, "documents": 2}, headers=KEY)
        for response in (other, elsewhere):
            assert response.status_code == 422
            assert response.json()["code"] == "IDEMPOTENCY_KEY_REUSED"
        assert http.post("/v1/searches", json=POCKET_SPEC).status_code == 202, "no key, no memory"


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_is_none(server: RunningServer, key: str) -> None:
    with server.http as http:
        response = http.post("/v1/searches", json=POCKET_SPEC, headers={"Idempotency-Key": key})
    assert response.status_code in (400, 422)
    assert response.json()["code"] in ("MALFORMED_REQUEST", "VALIDATION_FAILED")


def test_fifty_at_once_make_one_job(server: RunningServer) -> None:
    with ThreadPoolExecutor(50) as pool, server.http as http:

        def submit(_: int) -> httpx.Response:
            return http.post("/v1/searches", json=POCKET_SPEC, headers=KEY, timeout=60)

        responses = list(pool.map(submit, range(50)))
    assert {response.status_code for response in responses} == {202}
    assert len({response.json()["id"] for response in responses}) == 1
    assert sum("idempotent-replayed" not in response.headers for response in responses) == 1
    with server.client() as client:
        assert len(client.jobs().items) == 1


def test_keys_of_different_principals_never_meet(server: RunningServer) -> None:
    tokens = [server.keys.create(name, ["read", "submit"]) for name in ("ann", "bob")]
    ids = set()
    with running_server(server.database, host="0.0.0.0") as guarded:
        for token in tokens:
            with guarded.client(token) as client:
                ids.add(client.submit(POCKET_SPEC, idempotency_key="same").id)
    assert len(ids) == 2
