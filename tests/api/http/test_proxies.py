"""Behind a proxy: strangers are nobody's operator, and under a prefix every address has it."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from api.cli import run
from api.http.prefix import PrefixMiddleware, route_path
from storage.postgres.database import Database
from tests.helpers.google_store import make_certificate
from tests.helpers.http_server import POCKET_SPEC, RunningServer, running_server
from tests.helpers.nginx import NGINX, nginx
from tests.helpers.waiting import free_port

needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed here")
STOCK = "location / {{ proxy_pass {url}; }}"
STRIPPING = "location /team/ropewalk/ {{ proxy_pass {url}/; proxy_set_header X-Forwarded-Prefix /team/ropewalk; }}"
PASSING = "location /team/ropewalk/ {{ proxy_pass {url}; }}"


@needs_nginx
def test_a_stranger_behind_a_stock_proxy_is_not_the_operator(server: RunningServer, tmp_path: Path) -> None:
    """Its Host is loopback's and no header says that there is a proxy."""
    with nginx(tmp_path, STOCK.format(url=server.url)) as url:
        with httpx.Client(base_url=url, timeout=60) as stranger:
            assert stranger.get("/healthz").status_code == 200
            for answer in (
                stranger.get("/v1/searches"),
                stranger.post("/v1/searches", json={"model": "/etc/passwd", "target_length": 1024}),
                stranger.get("/v1/models:inspect", params={"model": "/etc"}),
                stranger.get("/dashboard"),
            ):
                assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")
        assert httpx.get(f"{url}/v1/searches", headers=server.operator).status_code == 200


@needs_nginx
@pytest.mark.parametrize(
    ("location", "root_path"), [(STRIPPING, None), (STRIPPING, "/team/ropewalk"), (PASSING, "/team/ropewalk/")]
)
def test_under_a_prefix_every_address_has_it(
    location: str, root_path: str | None, database: Database, tmp_path: Path
) -> None:
    with (
        running_server(database, root_path=root_path) as server,
        nginx(tmp_path, location.format(url=server.url)) as url,
        httpx.Client(base_url=f"{url}/team/ropewalk/", headers=server.operator, timeout=60) as http,
    ):
        created = http.post("v1/searches", json=POCKET_SPEC)
        assert created.headers["location"] == f"/team/ropewalk/v1/searches/{created.json()['id']}"
        assert http.get(url + created.headers["location"]).json() == created.json()
        assert f'href="/team/ropewalk/jobs/{created.json()["id"]}"' in http.get("").text
        assert httpx.get(f"{url}/team/ropewalk/").headers["location"] == "/team/ropewalk/docs"
        page = http.get("docs").text
        assert "'/team/ropewalk/openapi.json'" in page
        assert http.get("openapi.json").json()["servers"] == [{"url": "/team/ropewalk"}]
        assert http.get("docs-assets/swagger-ui.css").status_code == 200
        assert http.get("v1/nowhere").json()["instance"] == "/team/ropewalk/v1/nowhere"
        assert http.put("v1/searches").headers["allow"] == "GET, POST"
        dashboard = http.get("dashboard")
        assert 'src="/team/ropewalk/static/bundle.js"' in dashboard.text
        script = http.get("static/bundle.js")
        assert int(script.headers["content-length"]) == len(script.content)
        assert 'url_prefix:"/team/ropewalk/dashboard"' in script.text
        assert 'url_prefix:"/dashboard"' not in script.text
        assert "`/team/ropewalk/csv/" in script.text
        assert "`/csv/" not in script.text
        assert http.get("api/studies").status_code == 200
        kept = http.get("dashboard", params={"token": server.token})
        assert (kept.status_code, kept.headers["location"]) == (303, "/team/ropewalk/dashboard")


@pytest.mark.parametrize(
    ("configured", "told", "path", "root", "route"),
    [
        (None, None, "/v1/searches", "", "/v1/searches"),
        (None, "/a", "/v1/searches", "/a", "/v1/searches"),
        (None, "/a/", "/a/v1/searches", "/a", "/v1/searches"),
        ("/b", "/a", "/v1/searches", "/b", "/v1/searches"),
        ("/b", None, "/b", "/b", "/"),
        ("/b", None, "/bc", "/b", "/bc"),
        (None, "//evil.example", "/docs", "", "/docs"),
        (None, '/a"><script>', "/docs", "", "/docs"),
        (None, "a", "/docs", "", "/docs"),
    ],
)
def test_what_a_prefix_makes_of_a_path(
    configured: str | None, told: str | None, path: str, root: str, route: str
) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def receive() -> Message:
        return {}

    async def send(_: Message) -> None:
        pass

    headers = [] if told is None else [(b"x-forwarded-prefix", told.encode())]
    scope = {"type": "http", "path": path, "headers": headers}
    asyncio.run(PrefixMiddleware(app, configured)(scope, receive, send))
    assert (seen[0].get("root_path", ""), route_path(seen[0])) == (root, route)


# -- proxies of the environment, and certificates --------------------------------------------------------------------

FOREIGN = "http://10.255.255.1:8000"


@pytest.mark.parametrize("no_proxy", ["localhost", ""])
def test_no_proxy_leads_to_this_machine(no_proxy: str, server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    with server.client() as client:
        assert client.ready().status == "ready"


def test_a_socks_proxy_is_told_on_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)  # as where the extra is not installed
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    monkeypatch.setenv("ROPEWALK_URL", FOREIGN)
    assert run(["list"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "ALL_PROXY" in told
    assert "httpx[socks]" in told


@contextmanager
def over_tls(directory: Path) -> Iterator[tuple[str, Path]]:
    """A URL, and the certificate that it shows, which nobody has signed."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    make_certificate(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), _Nothing)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}", certificate
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Nothing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"items": [], "next_page_token": null}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not installed")
def test_a_certificate_of_ones_own_is_trusted_when_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.delenv("SSL_CERT_FILE")
    with over_tls(tmp_path) as (url, certificate):
        monkeypatch.setenv("ROPEWALK_URL", url)
        assert run(["list", "--json"]) == 1
        assert "certificate verify failed" in capsys.readouterr().err
        assert run(["--ca", str(certificate), "list", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["items"] == []
    (tmp_path / "nothing.pem").write_text("")
    for wrong in ("nothing.pem", "nowhere.pem"):
        assert run(["--ca", str(tmp_path / wrong), "list"]) == 2
        assert "--ca must be a file of PEM certificates" in capsys.readouterr().err
