"""`python examples/watch_a_search.py` against a server and a controller; only the scorer is analytic."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ropewalk.factors.factor_file import FactorFile
from storage.postgres.database import Database
from tests.helpers.http_server import running_server
from tests.helpers.paths import ROOT, STARTUP
from tests.helpers.searches import controller
from tests.helpers.waiting import free_port


def example(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / "watch_a_search.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(STARTUP), str(ROOT)]), "ROPEWALK_URL": url}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_search_is_followed_to_its_factors(database: Database, tmp_path: Path) -> None:
    output = tmp_path / "found"
    with running_server(database) as server, controller(database, tmp_path / "home"):
        done = example(server.url, "--backend", "analytic", "--output", str(output))
        assert done.returncode == 0, done.stderr
        with server.client() as client:
            factors = client.export(done.stdout.split()[1])
    lines = done.stdout.splitlines()
    assert lines[0].startswith("submitted srch_")
    assert any(line.startswith("generation 0: NLL ") for line in lines)
    assert FactorFile.from_json((output / "factors.json").read_text()) == FactorFile.from_json(factors)
    written = [Path(line) for line in lines if line.startswith(str(output))]
    assert {path.name for path in written} >= {"factors.json", "factors.png"}
    assert all(path.is_file() for path in written)


def test_without_a_server_it_says_so() -> None:
    done = example(f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "start one with: ropewalk serve" in done.stderr
    assert done.stderr.count("\n") == 1
