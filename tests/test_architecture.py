"""The import graph: no circles, every sub-room under a contract, and docs/architecture.md drawn from it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scripts import imports
from tests.helpers.paths import ROOT

FILES = imports.modules()
GRAPH = imports.file_graph(FILES)
SUB_ROOMS = imports.sub_rooms(FILES)
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def test_no_file_imports_itself_through_others() -> None:
    assert imports.on_circles(GRAPH) == []


def test_no_sub_room_imports_itself_through_others() -> None:
    assert imports.on_circles(imports.grouped(GRAPH, SUB_ROOMS)) == []


def test_every_sub_room_is_in_a_layers_contract() -> None:
    layered = {
        f"{container}.{module.strip(' ()')}"
        for contract in CONTRACTS
        for container in contract.get("containers", [])
        for layer in contract["layers"]
        for module in layer.split("|")
    }
    rooms = [room for room in SUB_ROOMS if not room.startswith("benchmarks.")]
    assert len(rooms) > 20
    assert [room for room in rooms if room not in layered] == []


@pytest.mark.parametrize("room", SUB_ROOMS)
def test_every_sub_room_says_what_is_in_it(room: str) -> None:
    assert imports.summary(FILES[room]).endswith(".")


def test_the_page_is_what_the_imports_say() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert page == imports.written(page, imports.page_section(FILES, GRAPH)), "run scripts/architecture"


VALUES = re.findall(r"\| `(\w+)` \| `([\w/]+\.py)` \|", (ROOT / "docs" / "architecture.md").read_text())


@pytest.mark.parametrize(("value", "path"), VALUES)
def test_a_value_that_the_page_names_is_defined_there(value: str, path: str) -> None:
    assert f"\nclass {value}" in (ROOT / path).read_text()


def test_the_page_follows_a_search_from_spec_to_factor_file() -> None:
    assert [VALUES[0][0], VALUES[-1][0]] == ["SearchSpec", "FactorFile"]


@pytest.fixture
def tangled(tmp_path: Path) -> dict[str, Path]:
    """A tree with a circle of three files, by an import in a function and one under TYPE_CHECKING."""
    sources = {
        "api/__init__.py": "",
        "api/one.py": "def f() -> None:\n    from api.inner import two\n",
        "api/inner/__init__.py": '"""Inner."""',
        "api/inner/two.py": "import json\nif TYPE_CHECKING:\n    import api.three\n",
        "api/three.py": "from api.one import f\n",
        "api/four.py": "from api.inner.two import x\nfrom api.one import f\n",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return imports.modules(tmp_path)


def test_deferred_and_type_checking_imports_are_seen(tangled: dict[str, Path]) -> None:
    graph = imports.file_graph(tangled)
    assert graph["api.one"] == {"api.inner.two"}
    assert imports.on_circles(graph) == ["api.inner.two", "api.one", "api.three"]
    assert imports.on_circles(imports.grouped(graph, ["api.inner"])) == ["api.inner", "api.one", "api.three"]
    assert "circles between files: 3 (api.inner.two, api.one, api.three)" in imports.report(tangled, graph)


def test_an_arrow_that_follows_from_others_is_not_drawn() -> None:
    drawn = imports.diagram(
        {"api.a": frozenset({"api.b", "api.c"}), "api.b": frozenset({"api.c"}), "api.c": frozenset()}
    )
    assert drawn.count("-->") == 2
    assert "api_a --> m_api_c" not in drawn


def test_the_script_ends_well_on_this_tree() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.imports", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "circles between files: 0" in done.stdout
