"""`ropewalk serve` on a machine where Ray does not come up: it ends by itself, says so, and leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.server_process import own_environment
from tests.helpers.waiting import free_port

SERVE = """
import sys
import ray._private.services as services
services.RAYLET_EXECUTABLE = sys.argv[1]
from api.cli import run
sys.exit(run(["serve"]))
"""
SECONDS = 270.0  # Ray waits half a minute for its raylet, three times; on a busy machine everything before takes long


@pytest.mark.timeout(400)
def test_a_ray_that_does_not_start_ends_the_server_soon_and_leaves_nothing(tmp_path: Path) -> None:
    raylet = tmp_path / "raylet"
    raylet.write_text("#!/bin/sh\nexec sleep 3600\n")
    raylet.chmod(0o755)
    home = tmp_path / "home"
    environment = own_environment() | {"ROPEWALK_HOME": str(home), "ROPEWALK_PORT": str(free_port())}
    environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "sdk")])}
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(raylet)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Ray must start on this machine, but did not in 3 attempts" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    entry = f"ROPEWALK_HOME={home}".encode()
    left = [path.parent for path in Path("/proc").glob("[0-9]*/environ") if entry in _bytes(path).split(b"\0")]
    assert not left, [_bytes(path / "cmdline") for path in left]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
