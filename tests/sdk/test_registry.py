"""Tables of what a spec can name, and rows from installed packages."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

import pytest

from ropewalk.registry import Registry

GROUP = "ropewalk.rows-of-a-test"


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    name: str
    summary: str = "what it is"


OURS = Named(name="ours", summary="built in")
ADDED = Named(name="added")
RENAMED = Named(name="another name")
NO_ROW = "a string"


def table() -> Registry[Named]:
    return Registry("thing", OURS, refusal=LookupError, kind=Named, group=GROUP)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points as importlib.metadata would find them, one of each kind of fault."""
    module = "tests.sdk.test_registry"
    values = {
        "added": f"{module}:ADDED",
        "ours": f"{module}:OURS",
        "renamed": f"{module}:RENAMED",
        "no-row": f"{module}:NO_ROW",
        "broken": "no_such_package:ROW",
    }
    entries = [importlib.metadata.EntryPoint(name, value, GROUP) for name, value in values.items()]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: entries if group == GROUP else [])


def test_rows_come_in_order_and_by_name() -> None:
    rows = Registry("thing", OURS, ADDED, refusal=LookupError, kind=Named)
    assert list(rows) == ["ours", "added"]
    assert rows.find("added") is ADDED
    assert rows.described() == "ours: built in; added: what it is"


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(LookupError, match="thing must be one of ours, but got 'theirs'"):
        table().find("theirs")


@pytest.mark.usefixtures("installed")
def test_installed_packages_add_rows() -> None:
    assert list(table()) == ["ours", "added"]
    assert list(table().own) == ["ours"]
    assert table().find("added") == ADDED


@pytest.mark.usefixtures("installed")
def test_what_cannot_be_added_takes_nothing_away_and_says_why() -> None:
    rows = table()
    assert rows["ours"] is OURS
    assert set(rows.problems) == {"ours", "renamed", "no-row", "broken"}
    assert "must be new" in rows.problems["ours"]
    assert "must have its row's name" in rows.problems["renamed"]
    assert "must be a Named" in rows.problems["no-row"]
    with pytest.raises(LookupError, match="but got 'broken'; that entry point cannot be used: no_such_package"):
        rows.find("broken")
