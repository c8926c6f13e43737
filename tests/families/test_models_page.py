"""docs/models.md has a line for every family; test_reading.py holds that each is what is read today."""

from __future__ import annotations

from scripts import models
from tests.helpers.paths import ROOT


def test_the_page_has_every_family_and_nothing_else() -> None:
    text = models.PAGE.read_text(encoding="utf-8")
    by_name = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines()}
    assert text == models.page(lambda one: by_name.get(one["published"], "missing")), "run scripts/models"


def test_the_readme_has_the_counts() -> None:
    listed = [one for one in models.entries() if one.get("listed", True)]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert models.counted(listed) in readme
