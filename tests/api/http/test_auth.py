"""Who gets in: every way of binding, with and without keys, with every scope."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from starlette.datastructures import Headers

from api.errors import UnsafeBind
from api.http.auth import Gatekeeper, check_bind
from api.http.credentials import bearer_token, cookie_name
from api.http.scopes import ANYONE_LOCAL
from api.local_token import ensure_token
from api.rate_limits import RateLimits
from ropewalk.client.token import local_token
from ropewalk.wire.kinds import JobState
from storage.api_keys import ApiKeys
from storage.postgres.database import Database
from storage.records import Scope
from tests.helpers.http_server import POCKET_SPEC, RunningServer, running_server

GUARDED = ("/v1/searches", "/v1/finetunes", "/v1/evaluations", "/metrics", "/dashboard", "/api/studies", "/v1/nothing")
OPEN = ("/healthz", "/readyz", "/openapi.json", "/docs")


@pytest.fixture
def guarded(database: Database) -> Iterator[RunningServer]:
    """A server that other machines could reach."""
    with running_server(database, host="0.0.0.0") as running:
        yield running


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", GUARDED)
def test_without_a_key_nothing_is_shown(guarded: RunningServer, path: str) -> None:
    with guarded.http as http:
        for headers in ({}, _bearer("rw_x_y"), {"Authorization": "Basic !!!"}, {"Authorization": "Bearer"}):
            response = http.get(path, headers=headers)
            assert response.status_code == 401
            assert response.json()["code"] == "UNAUTHENTICATED"
            scheme = "Basic" if path in ("/dashboard", "/api/studies") else "Bearer"
            assert response.headers["www-authenticate"].startswith(scheme)


@pytest.mark.parametrize("path", OPEN)
def test_health_and_documentation_are_open(guarded: RunningServer, path: str) -> None:
    with guarded.http as http:
        assert http.get(path).status_code == 200


@pytest.mark.parametrize(
    ("scopes", "reads", "submits"),
    [
        (["read"], True, False),
        (["submit"], False, True),
        (["read", "submit"], True, True),
        (["admin"], True, True),
        (["worker"], False, False),
    ],
)
def test_scopes(guarded: RunningServer, scopes: list[Scope], reads: bool, submits: bool) -> None:
    headers = _bearer(guarded.keys.create("someone", scopes))
    with guarded.http as http:
        read = http.get("/v1/searches", headers=headers)
        write = http.post("/v1/searches", json=POCKET_SPEC, headers=headers)
        act = http.post("/v1/searches/srch_none:cancel", headers=headers)
    assert read.status_code == (200 if reads else 403)
    assert write.status_code == (202 if submits else 403)
    assert act.status_code == (404 if submits else 403)
    for response in (read, write):
        if response.status_code == 403:
            assert response.json()["code"] == "INSUFFICIENT_SCOPE"


def test_who_may_submit_may_follow_what_it_submitted(guarded: RunningServer) -> None:
    mine, others = (_bearer(guarded.keys.create(name, ["submit"])) for name in ("mine", "others"))
    with guarded.http as http:
        job_id = http.post("/v1/searches", json=POCKET_SPEC, headers=mine).json()["id"]
        for path in ("", "/events", "/trials", "/scores"):
            assert http.get(f"/v1/searches/{job_id}{path}", headers=mine).status_code == 200, path
            assert http.get(f"/v1/searches/{job_id}{path}", headers=others).status_code == 403
        assert http.get("/v1/searches", headers=mine).status_code == 403, "the list shows everybody's"
        assert http.get("/v1/searches/srch_none", headers=mine).status_code == 403
        jobs = guarded.jobs
        claimed = jobs.claim("a", 60)
        assert claimed is not None
        for state in (JobState.preparing, JobState.searching, JobState.validating):
            jobs.transition(claimed[1], state)
        child = jobs.hand_off(claimed[1], "{}", "{}").id
        assert jobs.owner(child) == jobs.owner(job_id)


def test_a_refusal_says_where_clients_take_the_key_from(guarded: RunningServer) -> None:
    with guarded.http as http:
        for headers in ({}, _bearer("rw_x_y")):
            assert "ROPEWALK_API_KEY" in http.get("/v1/searches", headers=headers).json()["detail"]


def test_a_browser_sends_the_key_as_a_password(guarded: RunningServer) -> None:
    token = guarded.keys.create("browser", ["read"])
    with guarded.http as http:
        assert http.get("/dashboard", auth=("anyone", token)).status_code == 200
        assert http.get("/dashboard", auth=("anyone", "guess")).status_code == 401


def test_a_revoked_key_stops_working(database: Database) -> None:
    keys = ApiKeys(database)
    now = 0.0
    gate = Gatekeeper(keys, host="0.0.0.0", limits=RateLimits(None), clock=lambda: now)
    headers = Headers(_bearer(keys.create("leaver", ["read"])))
    assert gate.admit("GET", "/v1/searches", headers, address="here").may("read")
    assert keys.revoke(keys.list()[0].id)
    now = 60.0
    with pytest.raises(PermissionError, match="revoked"):
        gate.admit("GET", "/v1/searches", headers, address="here")


def test_a_server_without_keys_wants_its_token_and_then_a_key(database: Database) -> None:
    keys = ApiKeys(database)
    now = 0.0
    gate = Gatekeeper(keys, host="127.0.0.1", limits=RateLimits(None), token="mine", clock=lambda: now)
    local = Headers({"host": "127.0.0.1:8000"})
    operator = Headers({"host": "127.0.0.1:8000", **_bearer("mine")})
    with pytest.raises(PermissionError, match="ROPEWALK_HOME"):
        gate.admit("GET", "/v1/searches", local, address="here")
    assert gate.admit("POST", "/v1/searches", operator, address="here") is ANYONE_LOCAL
    token = keys.create("first", ["read"])
    now = 60.0
    with pytest.raises(PermissionError, match="needs an API key"):
        gate.admit("GET", "/v1/searches", local, address="here")
    assert gate.admit("GET", "/v1/searches", Headers(_bearer(token)), address="here").name.startswith("key:")
    assert gate.admit("POST", "/v1/searches", operator, address="here") is ANYONE_LOCAL, "nobody is locked out"


@pytest.mark.parametrize("sent", ["", "other", "min", "mine2"])
def test_no_token_but_the_homes_is_the_operators(sent: str, database: Database) -> None:
    for host, headers in (
        ("127.0.0.1", _bearer(sent)),
        ("127.0.0.1", {"cookie": f"{cookie_name('mine')}={sent}"}),
        ("127.0.0.1", {"cookie": "other=mine"}),
        ("0.0.0.0", _bearer("mine")),
    ):
        gate = Gatekeeper(ApiKeys(database), host=host, limits=RateLimits(None), token="mine")
        with pytest.raises(PermissionError):
            gate.admit("GET", "/v1/searches", Headers({"host": "127.0.0.1:8000"} | headers), address="here")


def test_a_browser_keeps_the_token_of_the_printed_address(server: RunningServer) -> None:
    with server.stranger as browser:
        assert browser.get("/dashboard").status_code == 401
        assert browser.get("/dashboard?token=guess").status_code == 401
        shown = browser.get("/dashboard", params={"token": server.token, "a": "b"})
        assert (shown.status_code, shown.headers["location"]) == (303, "/dashboard?a=b")
        assert "httponly" in shown.headers["set-cookie"].lower()
        assert browser.get("/dashboard").status_code == 200
        assert browser.get("/v1/searches").status_code == 200
        cross = browser.post("/v1/searches", json=POCKET_SPEC, headers={"Origin": "https://evil.example"})
        assert cross.json()["code"] == "CROSS_ORIGIN_REQUEST"


def test_the_token_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        tokens = set(pool.map(lambda _: ensure_token(tmp_path), range(8)))
    assert len(tokens) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["token"]
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    (token,) = tokens
    for url in ("http://127.0.0.1:8000", "http://localhost:1/x", "http://[::1]:8000"):
        assert local_token(url, tmp_path) == token
    for url in ("http://10.1.2.3:8000", "https://ropewalk.example", "http://127.0.0.1.evil.example", "nonsense"):
        assert local_token(url, tmp_path) is None, "it goes to no other machine"
    assert local_token("http://127.0.0.1:8000", tmp_path / "nowhere") is None


def test_binding_other_addresses_needs_a_key(database: Database) -> None:
    keys = ApiKeys(database)
    for host in ("127.0.0.1", "localhost", "::1"):
        check_bind(host, keys)
    for host in ("0.0.0.0", "::", "10.1.2.3"):
        with pytest.raises(UnsafeBind, match="ropewalk keys create"):
            check_bind(host, keys)
    keys.create("someone", ["read"])
    check_bind("0.0.0.0", keys)
    keys.revoke(keys.list()[0].id)
    with pytest.raises(UnsafeBind):
        check_bind("0.0.0.0", keys)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""])
def test_an_open_server_answers_to_loopback_names_only(server: RunningServer, host: str) -> None:
    with server.http as http:
        response = http.get("/v1/searches", headers={"Host": host})
        assert response.status_code == 403
        assert response.json()["code"] == "HOST_NOT_ALLOWED"
        for name in ("localhost", "127.0.0.1:1", "[::1]:8000"):
            assert http.get("/v1/searches", headers={"Host": name}).status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_an_open_server_answers_no_proxy(server: RunningServer, header: str) -> None:
    """Proxies may rewrite the Host header, and anybody may be behind one."""
    with server.http as http:
        response = http.get("/v1/searches", headers={header: "for=192.0.2.1"})
        assert (response.status_code, response.json()["code"]) == (403, "HOST_NOT_ALLOWED")
        assert http.get("/healthz", headers={header: "for=192.0.2.1"}).status_code == 200


def test_pages_of_other_origins_change_nothing(server: RunningServer) -> None:
    job_id = server.jobs.create("search", "{}").job.id
    own = server.url
    with server.http as http:
        response = http.post(f"/v1/searches/{job_id}:cancel", headers={"Origin": "https://evil.example"})
        assert response.status_code == 403
        assert response.json()["code"] == "CROSS_ORIGIN_REQUEST"
        assert http.post(f"/v1/searches/{job_id}:cancel", headers={"Origin": own}).status_code == 200


def test_tokens_in_headers() -> None:
    assert bearer_token("Bearer rw_a_b") == "rw_a_b"
    assert bearer_token("bearer  rw_a_b ") == "rw_a_b"
    assert bearer_token("Basic dXNlcjpyd19hX2I=") == "rw_a_b"
    for nothing in ("", "Bearer", "Basic ", "Basic ===", "Basic /w==", "Digest x"):
        assert bearer_token(nothing) is None


def test_the_typed_client_sends_its_key(guarded: RunningServer) -> None:
    token = guarded.keys.create("client", ["read"])
    with guarded.client(token) as client:
        assert client.jobs().items == []
    with httpx.Client(base_url=guarded.url) as http:
        assert http.get("/v1/searches").status_code == 401
