"""The environment variable that ends a controller at a named point, through the whole command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from service.runtime.crash_points import EXIT_CODE
from service.specs.search import SearchSpec
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from tests.helpers.chaos_everything import environment
from tests.helpers.controllers import search_spec
from tests.helpers.paths import ROOT


def controller(database_url: str, home: Path, crash_at: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api.cli", "controller"],
        env=environment(home, database_url) | {"ROPEWALK_CRASH_AT": crash_at},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_controller_ends_at_the_point_that_the_environment_names(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    job = JobStore(database).create("search", SearchSpec.model_validate(search_spec()).canonical_json()).job
    assert controller(database_url, tmp_path, "after claim").returncode == EXIT_CODE
    assert JobStore(database).get(job.id).lease_epoch == 1
    refused = controller(database_url, tmp_path, "after lunch")
    assert refused.returncode not in (0, EXIT_CODE)
    assert "ROPEWALK_CRASH_AT" in refused.stderr
    assert "Traceback" not in refused.stderr
