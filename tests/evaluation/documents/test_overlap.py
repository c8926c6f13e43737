"""What documents share is counted exactly where they are short, and closely where they are sampled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.documents import overlap
from evaluation.documents.overlap import GRAM, measure_overlap

DOCUMENTS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=60), min_size=1, max_size=6)


def grams(ids: list[int]) -> set[tuple[int, ...]]:
    return {tuple(ids[at : at + GRAM]) for at in range(len(ids) - GRAM + 1)}


@given(DOCUMENTS)
def test_shares_are_those_of_the_sets(documents: list[list[int]]) -> None:
    shares = measure_overlap(documents).shares
    for row, one in enumerate(map(grams, documents)):
        for column, other in enumerate(map(grams, documents)):
            expected = len(one & other) / np.sqrt(max(len(one), 1) * max(len(other), 1))
            assert shares[row, column] == pytest.approx(1.0 if row == column else expected, abs=1e-6)


def test_what_documents_are_worth() -> None:
    apart = [list(range(start, start + 100)) for start in range(0, 500, 100)]
    found = measure_overlap(apart)
    assert [found.share, found.effective] == pytest.approx([0.0, 5.0])
    same = measure_overlap([apart[0]] * 5)
    assert [same.share, same.effective] == pytest.approx([1.0, 1.0])
    assert measure_overlap(apart[:1]).share == 0.0
    assert measure_overlap(apart[:1]).effective == 1.0


def test_long_documents_are_sampled_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    text = rng.integers(0, 50_000, size=60_000)
    documents = [text[start : start + 20_000].tolist() for start in (0, 5_000, 10_000, 40_000)]
    whole = measure_overlap(documents).shares
    monkeypatch.setattr(overlap, "MOST_GRAMS", 2_000)
    sampled = measure_overlap(documents).shares
    assert whole[0] == pytest.approx([1.0, 0.75, 0.5, 0.0], abs=1e-2)
    assert sampled == pytest.approx(whole, abs=0.05)
