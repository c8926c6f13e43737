"""Our scorer against plain transformers: every family with its published config, and with found factors in it."""

from __future__ import annotations

import pytest

from tests.helpers.families import Family, families
from tests.helpers.family_scores import FamilyScores, score_family

TOLERANCE = 1e-4  # nats per token: other kernels' rounding
EFFECT = 1e-3  # what the factors move, or the comparison would show nothing
WORKING = [pytest.param(one, id=one.family) for one in families() if one.works]


@pytest.fixture(scope="module", params=WORKING)
def one(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


@pytest.fixture(scope="module")
def scores(one: Family, tmp_path_factory: pytest.TempPathFactory) -> FamilyScores:
    return score_family(one, tmp_path_factory.mktemp("family"))


def test_no_scaling_is_the_published_model(scores: FamilyScores) -> None:
    assert scores.none == pytest.approx(scores.published, abs=TOLERANCE)


def test_factors_matter(one: Family, scores: FamilyScores) -> None:
    assert abs(scores.found - scores.unscaled_past) > EFFECT
    assert (abs(scores.scaled_within - scores.none) > 5 * TOLERANCE) == one.attention_factor_matters


def test_an_exported_config_is_what_was_scored(scores: FamilyScores) -> None:
    if scores.export_refusal is not None:
        assert scores.exported is None
        return
    assert scores.exported == pytest.approx(scores.found, abs=TOLERANCE)
    assert scores.exported_within == pytest.approx(scores.scaled_within, abs=TOLERANCE)


def test_factors_in_the_loaded_model_are_what_was_scored_and_nothing_within(scores: FamilyScores) -> None:
    assert scores.applied == pytest.approx(scores.found, abs=TOLERANCE)
    assert scores.applied_within == scores.published
