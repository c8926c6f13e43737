"""Every scorer passes the conformance suite."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.scores.score import summarise
from ropewalk.rope.rescale_factors import RescaleFactors
from tests.helpers.samples import IDENTITY, documents
from tests.helpers.scorer_conformance import ScorerConformance, score
from workers.analytic_backend.scorer import AnalyticScorer
from workers.base import ScorerSettings


class TestTransformersScorer(ScorerConformance):
    @pytest.fixture
    def settings(self, transformers_settings: ScorerSettings) -> ScorerSettings:
        return transformers_settings


class TestAnalyticScorer(ScorerConformance):
    @pytest.fixture
    def settings(self, analytic_settings: ScorerSettings) -> ScorerSettings:
        return analytic_settings

    def test_its_optimum_beats_everything_around_it(self, settings: ScorerSettings) -> None:
        scorer = AnalyticScorer(settings)
        many = documents(300, length=32)
        best, attention_factor = scorer.optimum().factors, scorer.optimum().attention_factor
        lowest = summarise(score(scorer, many, factors=best, attention_factor=attention_factor)).nll
        for multiple in (1.05, 1.2, 1.5):
            moved = RescaleFactors(tuple(np.maximum(best.as_array() * np.linspace(1, multiple, len(best)), 1.0)))
            assert summarise(score(scorer, many, factors=moved, attention_factor=attention_factor)).nll > lowest
        assert summarise(score(scorer, many, factors=best, attention_factor=1.2)).nll > lowest
        assert summarise(score(scorer, many, factors=IDENTITY, attention_factor=1.0)).nll > lowest + 1.0

    def test_few_documents_mislead_as_real_ones_do(self, settings: ScorerSettings) -> None:
        """Two candidates near the optimum: documents disagree about which of them is better."""
        scorer = AnalyticScorer(settings)
        best = scorer.optimum().factors
        moved = RescaleFactors((best.values[0], *(value * 1.03 for value in best.values[1:])))
        left, right = (score(scorer, documents(40), factors=factors) for factors in (best, moved))
        wins = [a.nats < b.nats for a, b in zip(left, right, strict=True)]
        assert 5 < sum(wins) < 40
