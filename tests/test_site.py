"""`make docs`: the pages and the reference of the package `ropewalk`, built without a warning."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ropewalk
from tests.helpers.paths import ROOT


def build(site: Path, *, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", str(config), "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("site")
    done = build(path)
    assert done.returncode == 0, done.stderr
    return path


def test_every_public_name_and_method_has_its_place_in_the_reference(site: Path) -> None:
    found = {
        name
        for page in (site / "reference").glob("*.html")
        for name in re.findall(r'id="(ropewalk\.[\w.]+)"', page.read_text(encoding="utf-8"))
    }
    names = {f"ropewalk.{name}" for name in ropewalk.__all__ if name != "__version__"}
    for name in ("Client", "AsyncClient", "Factors"):
        methods = {key for key, _ in inspect.getmembers(getattr(ropewalk, name), callable) if key[0] != "_"}
        names |= {f"ropewalk.{name}.{method}" for method in methods}
    assert names <= found, names - found


def test_every_page_of_the_repository_is_there_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert {path for path in pages if not (site / path).is_file()} == set()
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?:[^"]*"', text) == [], page


def test_a_link_out_of_the_pages_names_the_file_instead(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "python.html").read_text(encoding="utf-8"))
    assert "in examples/python/: find.py (examples/python/find.py)" in text


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("# A\n\n[gone](gone.md)\n", "gone.md"),
        ("# A\n\n[here](#nowhere)\n", "nowhere"),
        ("# A\n\n::: ropewalk.Nothing\n", "ropewalk.Nothing"),
    ],
    ids=["page", "heading", "name"],
)
def test_what_leads_nowhere_fails_the_build(tmp_path: Path, page: str, told: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(page)
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: {tmp_path / 'docs'}\nhooks: []\n")
    done = build(tmp_path / "site", config=config)
    assert done.returncode == 1
    assert told in done.stderr


def test_the_first_page_leads_to_every_page() -> None:
    first = (ROOT / "docs" / "index.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in first] == ["index.md"]
