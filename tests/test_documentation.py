"""Links and file names in the documentation lead somewhere."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from scripts import prices
from scripts.tables import TABLES, Table
from tests.helpers.paths import ROOT

CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PATTERNS = ("*.md", "docs/*.md", "docs/*/*.md", "examples/*/README.md", "benchmarks/*/README.md")
PAGES = sorted(page for pattern in PATTERNS for page in ROOT.glob(pattern) if page.name != "CHANGELOG.md")


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _dead(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    found = (page.parent / path).resolve() if path else page
    return not found.exists() or (anchor != "" and anchor not in _anchors(found))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    assert [one for one in targets if "://" not in one and _dead(page, one)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_source_files_that_are_named_exist(page: Path) -> None:
    rooms = "api|sdk|service|workers|finetune|storage|evaluation|search_space|benchmarks|tests|scripts|docs|examples"
    names = set(re.findall(rf"`((?:{rooms})/[\w/.]+\.(?:py|md))\b", page.read_text()))
    assert sorted(name for name in names if not (ROOT / name).is_file()) == []


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_tables_of_rows_are_what_the_rows_say(table: Table) -> None:
    page = table.page.read_text()
    assert table.begin in page
    assert page == table.written(page), "run scripts/tables"


@pytest.mark.slow
def test_the_table_of_prices_is_what_plans_say() -> None:
    """The smallest model's rows: the others take a minute."""
    page = prices.TABLE.page.read_text()
    assert prices.TABLE.begin in page
    assert [line for line in page.splitlines() if line.startswith("| 1B |")] == list(prices.rows(["1B"])), (
        "run scripts/prices"
    )


BLOCK = re.compile(r"^```python\n# ([\w/]+\.py)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


def test_every_recipe_runs() -> None:
    """Each block of Python names its file first: a new one, or one whose names the block is run with."""
    blocks = BLOCK.findall(CONTRIBUTING.read_text())
    assert len(blocks) == CONTRIBUTING.read_text().count("```python")
    made: dict[str, ModuleType] = {}
    for path, code in blocks:
        name = path.removeprefix("sdk/").removesuffix(".py").replace("/", ".")
        module = ModuleType(name)
        if (ROOT / path).exists():
            module.__dict__.update(vars(importlib.import_module(name)))
        made[name] = module
        with pytest.MonkeyPatch.context() as patch:
            for known, of in made.items():
                patch.setitem(sys.modules, known, of)
            exec(compile(code, path, "exec"), module.__dict__)


def test_a_dead_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("## What it is: `a` and B\n")
    assert not _dead(page, "#what-it-is-a-and-b")
    assert _dead(page, "#elsewhere")
    assert _dead(page, "missing.md")
