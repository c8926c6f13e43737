"""What every test stands on: an environment without the developer's settings, and a real PostgreSQL server."""

from __future__ import annotations

import importlib.util
import multiprocessing.forkserver
import os

import hypothesis
import pytest

from tests.helpers.postgres import database, database_url, empty_database_url, postgres_url, template_database
from tests.helpers.undisturbed import undisturbed

__all__ = ["database", "database_url", "empty_database_url", "postgres_url", "template_database", "undisturbed"]

# A busy machine takes its time; that is no failure.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

SCRUBBED = ("ROPEWALK_", "PG", "RAY_ADDRESS")


def pytest_configure(config: pytest.Config) -> None:
    """Settings of the developer's shell reach no test, at import time either."""
    for name in [name for name in os.environ if name.startswith(SCRUBBED)]:
        del os.environ[name]


def pytest_unconfigure() -> None:
    """The server that test processes are forked from would else outlive the run by a moment."""
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]


def pytest_report_header() -> str | None:
    """Say which tests are left out."""
    if importlib.util.find_spec("vllm") is not None:
        return None
    return "tests/vllm: not collected, because vLLM is not installed here; make test-vllm runs them"
