"""How the tests themselves are built: what may import what, and what a room's tests load."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

FILES = sorted((ROOT / "tests").rglob("*.py"))
ROOMS = (
    "api",
    "benchmarks",
    "evaluation",
    "examples",
    "finetune",
    "scripts",
    "sdk",
    "search_space",
    "service",
    "storage",
    "workers",
)
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 356, 73  # at most; near 250 and 10 is where they should be
HEAVY = {"psycopg", "ray", "sqlalchemy", "torch", "transformers"}
COLLECT = """
import json
import sys
import pytest
class Seen:
    def pytest_collection_finish(self, session):
        self.marked = {}
        for item in session.items:
            marks = {mark.name for mark in item.iter_markers()} & {"ray", "postgres", "torch"}
            self.marked.setdefault(item.path.name, set()).update(marks)
seen = Seen()
assert pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[seen]) == 0
loaded = [name for name in sys.modules if "." not in name]
print(json.dumps([loaded, {name: sorted(marks) for name, marks in seen.marked.items()}]))
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


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    """Tests may be longer: a file of them is read one by one."""
    text = path.read_text()
    long = {
        node.name: lines
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > LINES_OF_A_FUNCTION
    }
    assert long == {}
    assert text.count("\n") <= LINES_OF_A_FILE, "split it by what its parts are"


def _collected(*arguments: str) -> tuple[set[str], dict[str, list[str]]]:
    """What collecting loads, and by file the markers that its tests get from what they use."""
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    loaded, marked = json.loads(done.stdout.splitlines()[-1])
    return set(loaded), marked


def test_collecting_the_maths_loads_no_database_no_cluster_and_no_torch() -> None:
    """Waiting for them is what makes a quick look slow; tests that compare with torch load it when they run."""
    loaded, _ = _collected("tests/search_space", "tests/sdk/factors", "tests/sdk/reading", "tests/sdk/rope")
    assert {"search_space", "ropewalk"} <= loaded
    assert not HEAVY & loaded


def test_tests_are_marked_by_what_they_use() -> None:
    marked = {
        "test_api_keys.py": ("tests/storage/test_api_keys.py", ["postgres"]),
        "test_generators.py": ("tests/workers/test_generators.py", ["ray", "torch"]),
        "test_kill_server.py": ("tests/acceptance/test_kill_server.py", ["postgres", "ray"]),
        "test_guarantees.py": ("tests/test_guarantees.py", []),
    }
    _, found = _collected(*(path for path, _ in marked.values()))
    found["test_kill_server.py"] = [marker for marker in found["test_kill_server.py"] if marker != "torch"]
    assert found == {name: markers for name, (_, markers) in marked.items()}


def test_continuous_integration_collects_the_families() -> None:
    """They were left out for days: pytest drops an argument that another one holds, and what is ignored below that."""
    (line,) = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("scripts/test ")]
    arguments = [one for one in shlex.split(line)[1:] if one not in ("-n", "3")]
    others = [f"--ignore={path}" for path in (ROOT / "tests").iterdir() if path.name not in ("conftest.py", "families")]
    asked = [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments, *others]
    found = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    for path in (ROOT / "tests" / "families").glob("test_*.py"):
        assert f"tests/families/{path.name}::" in found
