"""docs/models.md and the README say what is read today, which the other tests of this folder hold."""

from __future__ import annotations

from scripts import models
from tests.helpers.paths import ROOT


def test_the_page_is_up_to_date() -> None:
    assert models.PAGE.read_text(encoding="utf-8") == models.page(), "run scripts/models"


def test_the_readme_has_the_counts() -> None:
    listed = [one for one in models.entries() if one.get("listed", True)]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert models.counted(listed) in readme
