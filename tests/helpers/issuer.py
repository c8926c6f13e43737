"""An OpenID Connect issuer over HTTP: discovery, published keys, tokens signed with real ones; and its outages."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "https://ropewalk.example.com"
MAKERS: dict[str, tuple[Any, Any]] = {
    "RS256": (lambda: rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, OKPAlgorithm),
}


class RunningIssuer:
    """Its address and keys. `asked` counts requests by path; `answers` replaces what a path says."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/realms/team"
        self.keys: dict[str, tuple[str, Any]] = {}
        self.asked: dict[str, int] = {}
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.is_away = False

    def rotate(self, *names: str, algorithm: str = "RS256") -> None:
        """Publish keys of these ids, and no others."""
        self.keys = {name: (algorithm, MAKERS[algorithm][0]()) for name in names}

    def document(self, path: str) -> Any:
        if path.endswith("/.well-known/openid-configuration"):
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        keys = []
        for name, (algorithm, key) in self.keys.items():
            jwk = MAKERS[algorithm][1].to_jwk(key.public_key(), as_dict=True)
            keys.append({**jwk, "kid": name, "use": "sig"})
        return {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "symmetric"}, *keys]}

    def token(self, *, kid: str = "one", headers: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
        """One that is good, but for what is given."""
        now = int(time.time())
        algorithm, own = self.keys.get(kid, ("RS256", None))
        given = {"iss": self.url, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 300, **claims}
        payload = {name: value for name, value in given.items() if value is not None}
        return jwt.encode(payload, key or own, algorithm=algorithm, headers={"kid": kid, **(headers or {})})


@contextmanager
def running_issuer() -> Iterator[RunningIssuer]:
    """One that answers, with the key `one`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked[self.path] = issuer.asked.get(self.path, 0) + 1
            status, body = issuer.answers.get(self.path, (200, json.dumps(issuer.document(self.path)).encode()))
            if issuer.is_away:
                status, body = 503, b"away"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = RunningIssuer(server.server_port)
    issuer.rotate("one")
    thread = threading.Thread(target=server.serve_forever, name="issuer", daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
