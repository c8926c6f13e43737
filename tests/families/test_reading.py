"""Every family is read as it is published, or refused for the reason that its entry states."""

from __future__ import annotations

import math

import pytest

from evaluation.architecture.reading import read_architecture
from ropewalk.errors import UnsupportedRope
from scripts import models
from search_space.candidates.baselines import baselines
from tests.helpers.families import Family, families

WORKING = [pytest.param(one, id=one.family) for one in families() if one.works]
REFUSED = [pytest.param(one, id=one.family) for one in families() if not one.works]
PAGE = models.PAGE.read_text(encoding="utf-8").splitlines()


def _row(one: Family) -> str:
    return models.row(next(entry for entry in models.entries() if entry["family"] == one.family))


@pytest.mark.parametrize("one", REFUSED)
def test_what_is_refused_is_refused_for_its_reason(one: Family) -> None:
    with pytest.raises(UnsupportedRope) as caught:
        read_architecture(one.config, original_length=one.original_length)
    assert one.expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert _row(one) in PAGE, "run scripts/models"


@pytest.mark.parametrize("one", WORKING)
def test_what_works_is_read_with_all_baselines(one: Family) -> None:
    read = read_architecture(one.config, original_length=one.original_length)
    assert (read.rope.original_max_position_embeddings, read.rope.num_pairs) == (one.length, one.pairs)
    assert len(read.layers.all) > 0
    assert any(layer.rotates for layer in read.layers.all)
    found = baselines(read.rope, 2 * one.length)
    assert len(found) == 8
    for candidate in found:
        values = candidate.scaling.factors.values
        assert len(values) == one.pairs
        assert all(math.isfinite(value) for value in values)
    assert _row(one) in PAGE, "run scripts/models"
    refusal = read.rope.place.hf_refusal  # why no config could hold the factors
    assert (refusal is None) == (one.export is None)
    assert (one.export or "") in (refusal or "")
