"""What `gs://` asks of Google, answered by a real object server: the XML requests are those of S3, and a token that it
does not ask for stands where a signature would be. Over TLS, as the client speaks to Google in no other way."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.artifacts.objects import forget_clients
from tests.helpers.object_store import BUCKET
from tests.helpers.waiting import free_port, wait_until

_SERVER = """
import sys
from pathlib import Path
import uvicorn
from nanio.app import build_app
from nanio.auth.credentials import StaticCredentialResolver
from nanio.config import Settings
directory, port, certificate, key = sys.argv[1:]
settings = Settings(
    data_dir=Path(directory), region="us-east-1", credentials=StaticCredentialResolver({"a": "b"}), auth_disabled=True
)
uvicorn.run(
    build_app(settings), host="127.0.0.1", port=int(port), ssl_certfile=certificate, ssl_keyfile=key, log_level="error"
)
"""


@dataclass(frozen=True, kw_only=True)
class GoogleStore:
    """How a process finds it, as an operator sets it."""

    environment: dict[str, str]


@contextmanager
def google_store(directory: Path) -> Iterator[GoogleStore]:
    """One that answers and has an empty bucket."""
    files, certificate, key = directory / "files", directory / "certificate.pem", directory / "key.pem"
    (files / BUCKET).mkdir(parents=True)
    make_certificate(certificate, key)
    port = free_port()
    account = {"gcs_base_url": f"https://localhost:{port}", "disable_oauth": True}
    unused = {"client_email": "", "private_key": "", "private_key_id": ""}
    (directory / "account.json").write_text(json.dumps(account | unused))
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, files, str(port), certificate, key],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        assert process.poll() is None, "the server has ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(answers)
        yield GoogleStore(
            environment={"GOOGLE_SERVICE_ACCOUNT": str(directory / "account.json"), "SSL_CERT_FILE": str(certificate)}
        )
    finally:
        process.kill()
        process.wait()


def make_certificate(certificate: Path, key: Path) -> None:
    """Of localhost, signed by nobody."""
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    leaf = ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run([*command, *leaf, "-keyout", key, "-out", certificate], check=True, capture_output=True)


@pytest.fixture(scope="module")
def shared_google_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleStore]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    with google_store(tmp_path_factory.mktemp("gs")) as found:
        yield found


@pytest.fixture
def gs(shared_google_store: GoogleStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleStore]:
    """The store, as this process's environment names it."""
    for name, value in shared_google_store.environment.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    yield shared_google_store
    forget_clients()
