"""docs/guarantees.md names tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text()
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)((?:::\w+)*)`", PAGE)))


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    text = (ROOT / path).read_text()
    *classes, function = name.split("::")[1:] or [""]
    assert f"def {function}" in text
    assert all(f"class {one}" in text for one in classes)


def test_every_guarantee_names_one() -> None:
    sections = PAGE.split("\n## ")[1:8]
    assert [section[:2] for section in sections] == [f"G{number}" for number in range(1, 8)]
    assert all("`tests/" in section for section in sections)
