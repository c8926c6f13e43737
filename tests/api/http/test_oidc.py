"""Tokens of an OpenID Connect issuer, whose keys are asked for over HTTP: who gets in, as whom, what others hear."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api.cli import run
from api.errors import InvalidSettings, IssuerUnreachable, Unauthenticated
from api.http import oidc
from api.http.oidc import Issuer, scopes_of
from api.oidc_settings import OidcSettings
from api.settings import load_settings
from storage.postgres.database import Database
from storage.records import Scope
from tests.helpers.http_server import POCKET_SPEC, RunningServer, running_server
from tests.helpers.issuer import AUDIENCE, MAKERS, RunningIssuer, running_issuer

DISCOVERY = "/.well-known/openid-configuration"
ALL = "ropewalk:read ropewalk:submit openid"


@pytest.fixture
def issuer() -> Iterator[RunningIssuer]:
    with running_issuer() as running:
        yield running


@pytest.fixture
def server(database: Database, issuer: RunningIssuer) -> Iterator[RunningServer]:
    """One that other machines could reach, without any key."""
    with running_server(database, host="0.0.0.0", oidc_issuer=issuer.url, oidc_audience=AUDIENCE) as running:
        yield running


def asked(server: RunningServer, token: str, path: str = "/v1/searches") -> httpx.Response:
    return httpx.get(f"{server.url}{path}", headers={"Authorization": f"Bearer {token}"}, timeout=60)


def refusal(server: RunningServer, token: str) -> str:
    answer = asked(server, token)
    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED"), answer.text
    assert "\n" not in answer.json()["detail"]
    return str(answer.json()["detail"])


@pytest.mark.parametrize("algorithm", MAKERS)
def test_a_token_is_as_good_as_a_key(server: RunningServer, issuer: RunningIssuer, algorithm: str) -> None:
    issuer.rotate("one", algorithm=algorithm)
    token = issuer.token(scope=ALL)
    assert asked(server, token).status_code == 200
    headers = {"Authorization": f"Bearer {token}"}
    created = httpx.post(f"{server.url}/v1/searches", json=POCKET_SPEC, headers=headers, timeout=60)
    assert (created.status_code, created.json()["owner"]) == (202, "alice")
    assert httpx.get(f"{server.url}/v1/audit", headers=headers).status_code == 403, "that is for admin"
    audit = asked(server, issuer.token(sub="root", scope="ropewalk:admin"), "/v1/audit").json()["items"]
    assert [(one["actor"], one["action"]) for one in audit] == [("oidc:alice", "job.submitted")]


def test_scopes_and_owners_are_claims(database: Database, issuer: RunningIssuer) -> None:
    own: dict[str, Any] = {"oidc_owner_claim": "team", "oidc_scope_claim": "roles", "oidc_scope_prefix": "rw-"}
    with running_server(database, oidc_issuer=issuer.url, oidc_audience=AUDIENCE, **own) as server:
        token = issuer.token(team="lab", roles=["rw-own", "other"])
        headers = {"Authorization": f"Bearer {token}"}
        created = httpx.post(f"{server.url}/v1/searches", json=POCKET_SPEC, headers=headers, timeout=60).json()
        assert created["owner"] == "lab"
        same = issuer.token(sub="bob", team="lab", roles=["rw-own"])
        assert asked(server, same, f"/v1/searches/{created['id']}").status_code == 200
        other = issuer.token(sub="eve", team="elsewhere", roles=["rw-own"])
        assert asked(server, other, f"/v1/searches/{created['id']}").status_code == 404
        nothing = asked(server, issuer.token(team="lab", roles=["other"]))
        assert (nothing.status_code, nothing.json()["code"]) == (403, "INSUFFICIENT_SCOPE")
        assert "oidc:alice has none" in nothing.json()["detail"]


@pytest.mark.parametrize(
    ("claim", "scopes"),
    [
        ("ropewalk:read openid ropewalk:submit", {"read", "submit"}),
        (["ropewalk:admin"], {"admin"}),
        ("read submit admin", set()),
        ("ropewalk:everything ropewalk:", set()),
        (["ropewalk:own", 7, None], {"own"}),
        (None, set()),
        (7, set()),
    ],
)
def test_scopes_are_those_of_ours(claim: object, scopes: set[Scope]) -> None:
    assert scopes_of(claim, "ropewalk:") == scopes


def test_a_token_that_is_not_good_is_told_why(server: RunningServer, issuer: RunningIssuer) -> None:
    now = int(time.time())
    stranger = rsa.generate_private_key(65537, 2048)
    for token, why in (
        (issuer.token(exp=now - 120), "must not have expired, but it ended at 20"),
        (issuer.token(nbf=now + 600), "must be good already, but it begins at 20"),
        (
            issuer.token(aud="https://another.example.com"),
            f"must be for {AUDIENCE}, but its audience is 'https://another",
        ),
        (issuer.token(aud=None), "must have the claim aud, but has none"),
        (issuer.token(exp=None), "must have the claim exp, but has none"),
        (issuer.token(iss="https://evil.example.com"), "but is of 'https://evil.example.com'"),
        (issuer.token(key=stranger), "but its signature is another"),
        (issuer.token(kid="unknown", key=stranger), "names the key 'unknown', which is not published"),
        (issuer.token(sub="a\x00b"), "printable characters in its claim sub"),
        (issuer.token(sub="local"), "must name an owner of its own, but it names 'local'"),
        (issuer.token(sub="key:0123456789"), "must name an owner of its own"),
        ("a.b.c", "must be readable, but"),
        (f"{'x' * 20_000}.b.c", "must have at most 16384 characters"),
    ):
        assert why in refusal(server, token)
    assert "a token of http://127.0.0.1" in httpx.get(f"{server.url}/v1/searches").json()["detail"]


def test_only_asymmetric_algorithms_count(server: RunningServer, issuer: RunningIssuer) -> None:
    """Not none, and not a published key, or a published secret, taken for a shared one."""
    claims = jwt.decode(issuer.token(scope=ALL), options={"verify_signature": False})
    public = issuer.keys["one"][1].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = jwt.utils.base64url_encode(json.dumps({"alg": "HS256", "kid": "one"}).encode()).decode()
    body = jwt.utils.base64url_encode(json.dumps(claims).encode()).decode()
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        f"{header}.{body}".encode(), public
    )
    forged = f"{header}.{body}.{jwt.utils.base64url_encode(signature).decode()}"
    assert "must be signed with one of RS256" in refusal(server, forged)
    assert "but is with 'none'" in refusal(server, jwt.encode(claims, "", algorithm="none"))
    shared = jwt.encode(
        claims, "a secret that everybody can read in the keys", algorithm="HS256", headers={"kid": "symmetric"}
    )
    assert "but is with 'HS256'" in refusal(server, shared)


def test_clocks_may_differ_by_a_minute(server: RunningServer, issuer: RunningIssuer) -> None:
    now = int(time.time())
    assert asked(server, issuer.token(scope=ALL, exp=now - 30, sub="late")).status_code == 200
    assert asked(server, issuer.token(scope=ALL, nbf=now + 30, iat=now + 30, sub="early")).status_code == 200


def _issuer(of: RunningIssuer) -> tuple[Issuer, list[float]]:
    now = [1000.0]
    return Issuer(OidcSettings(issuer=of.url, audience=AUDIENCE), clock=lambda: now[0]), now


def test_keys_are_kept_and_rotated(issuer: RunningIssuer) -> None:
    checked, now = _issuer(issuer)
    place = "/realms/team/keys"
    for _ in range(3):
        checked.verify(issuer.token())
    assert issuer.asked[place] == 1
    now[0] += oidc.UNKNOWN_SECONDS
    issuer.rotate("two")
    assert checked.verify(issuer.token(kid="two")).owner == "alice"
    with pytest.raises(Unauthenticated, match="which is not published"):
        checked.verify(issuer.token(kid="three", key=issuer.keys["two"][1]))
    assert issuer.asked[place] == 2, "names that somebody makes up cost the issuer no requests"
    old = issuer.token(kid="two")
    issuer.rotate("three")
    now[0] += oidc.FRESH_SECONDS
    with pytest.raises(Unauthenticated, match="which is not published"):
        checked.verify(old)


def test_an_issuer_that_is_away_is_an_outage(server: RunningServer, issuer: RunningIssuer) -> None:
    issuer.is_away = True
    answer = asked(server, issuer.token(scope=ALL))
    assert (answer.status_code, answer.json()["code"]) == (503, "ISSUER_UNREACHABLE"), answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert "must answer, so that tokens can be checked" in answer.json()["detail"]


def test_keys_that_are_known_outlive_an_outage_for_a_while(issuer: RunningIssuer) -> None:
    checked, now = _issuer(issuer)
    token = issuer.token()
    checked.verify(token)
    issuer.is_away = True
    now[0] += oidc.FRESH_SECONDS
    assert checked.verify(token).name == "oidc:alice"
    now[0] += oidc.STALE_SECONDS
    with pytest.raises(IssuerUnreachable):
        checked.verify(token)
    issuer.is_away = False
    with pytest.raises(IssuerUnreachable):
        checked.verify(token)
    now[0] += oidc.UNKNOWN_SECONDS
    assert checked.verify(token).name == "oidc:alice"


@pytest.mark.parametrize(
    ("path", "answer", "why"),
    [
        (
            "/.well-known/openid-configuration",
            b'{"issuer": "https://another.example.com"}',
            "must be the one that is set",
        ),
        (DISCOVERY, b"<html>", "must answer, so that tokens can be checked"),
        (DISCOVERY, b"[]", "must answer with a JSON object"),
        ("/keys", b"not json", "must answer, so that tokens can be checked"),
    ],
)
def test_an_issuer_that_is_none_is_told(issuer: RunningIssuer, path: str, answer: bytes, why: str) -> None:
    issuer.answers[f"/realms/team{path}"] = (200, answer)
    with pytest.raises(IssuerUnreachable, match=why):
        _issuer(issuer)[0].verify(issuer.token())


def test_keys_are_asked_for_over_tls_only(issuer: RunningIssuer) -> None:
    document = {"issuer": issuer.url, "jwks_uri": "http://keys.example.com/keys"}
    issuer.answers["/realms/team/.well-known/openid-configuration"] = (200, json.dumps(document).encode())
    with pytest.raises(IssuerUnreachable, match=r"must say where its keys are, but its jwks_uri is 'http://keys"):
        _issuer(issuer)[0].verify(issuer.token())


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (
            {"oidc_issuer": "https://id.example.com"},
            "OIDC_ISSUER and ROPEWALK_OIDC_AUDIENCE must be given together",
        ),
        ({"oidc_audience": "a"}, "must be given together"),
        (
            {"oidc_issuer": "http://id.example.com", "oidc_audience": "a"},
            "OIDC_ISSUER must be the issuer's https",
        ),
        ({"oidc_issuer": "id.example.com", "oidc_audience": "a"}, "OIDC_ISSUER must be the issuer's https"),
    ],
)
def test_settings_that_name_no_issuer_are_one_line(settings: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidSettings, match=why) as refused:
        load_settings(**settings)
    assert "\n" not in str(refused.value)


def test_keys_and_the_token_of_the_home_stay(database: Database, issuer: RunningIssuer) -> None:
    with running_server(database, oidc_issuer=issuer.url, oidc_audience=AUDIENCE) as server:
        assert asked(server, server.token).status_code == 200
        assert asked(server, server.keys.create("bob", ["read"])).status_code == 200
        assert asked(server, issuer.token(scope=ALL)).status_code == 200
        assert httpx.get(f"{server.url}/v1/searches").status_code == 401


def test_the_command_line_sends_a_token_as_a_key(
    server: RunningServer, issuer: RunningIssuer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROPEWALK_URL", server.url)
    monkeypatch.setenv("ROPEWALK_API_KEY", issuer.token(scope=ALL))
    assert run(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == []
    monkeypatch.setenv("ROPEWALK_API_KEY", issuer.token(exp=int(time.time()) - 120))
    assert run(["list"]) == 1
    assert "must not have expired" in capsys.readouterr().err
