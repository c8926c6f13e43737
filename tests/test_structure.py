"""How the tests themselves are built: what may import what, and what a room's tests load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

FILES = sorted((ROOT / "tests").rglob("*.py"))
HEAVY = {"psycopg", "ray", "sqlalchemy", "torch", "transformers"}
COLLECT = """
import sys
import pytest
assert pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]]) == 0
print("loaded", *(name for name in sys.modules if "." not in name))
"""


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _shared(name: str) -> bool:
    """Whether a name below `tests` may be imported by another file: no test, and no conftest, may."""
    parts = name.split(".")
    return parts[0] != "tests" or not any(part.startswith(("test_", "long_", "conftest")) for part in parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_tests_share_is_a_helper(path: Path) -> None:
    assert [name for name in _imported(ast.parse(path.read_text())) if not _shared(name)] == []


@pytest.mark.parametrize(
    "code", ["from tests.api.test_logs import x", "from tests.api import conftest", "import tests.chaos.long_a"]
)
def test_the_rule_finds_what_it_forbids(code: str) -> None:
    assert not all(_shared(name) for name in _imported(ast.parse(code)))


def test_collecting_the_maths_loads_no_database_no_cluster_and_no_torch() -> None:
    """Waiting for them is what makes a quick look slow. The files that compare with torch name it themselves."""
    files = [path for path in FILES if path.is_relative_to(ROOT / "tests" / "search_space")]
    pure = [path for path in files if path.name.startswith("test_") and not _learning(path)]
    assert len(pure) > 0.9 * len([path for path in files if path.name.startswith("test_")])
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, *map(str, pure)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "search_space" in loaded
    assert not HEAVY & loaded


def _learning(path: Path) -> bool:
    return bool({"torch", "transformers"} & {name.partition(".")[0] for name in _imported(ast.parse(path.read_text()))})
