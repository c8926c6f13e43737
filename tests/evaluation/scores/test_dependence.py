"""Intervals over documents that share text: as wide as their scores and their text ask for."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.scores.dependence import variance_effect
from evaluation.scores.score import DocumentScore, paired_difference

NEIGHBOURS = np.eye(60) + 0.5 * np.eye(60, k=1) + 0.5 * np.eye(60, k=-1)


def drawn(covariance: np.ndarray, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).multivariate_normal(np.zeros(len(covariance)), covariance)
    return np.asarray(values - values.mean())


def test_documents_that_share_nothing_are_independent() -> None:
    assert variance_effect(drawn(np.eye(60), 0), np.eye(60)) == 1.0
    assert variance_effect(np.zeros(1), np.eye(1)) == 1.0
    assert variance_effect(np.zeros(60), NEIGHBOURS) > 1.0, "nothing is known of scores that do not vary"


def test_shared_text_counts_where_scores_go_together_and_not_where_they_do_not() -> None:
    kish = NEIGHBOURS.sum() / 60
    together = [variance_effect(drawn(NEIGHBOURS, seed), NEIGHBOURS) for seed in range(200)]
    apart = [variance_effect(drawn(np.eye(60), seed), NEIGHBOURS) for seed in range(200)]
    assert np.mean(together) == pytest.approx(kish, abs=0.2)
    assert sum(effect == 1.0 for effect in apart) > 180


def test_documents_that_are_nearly_one_count_as_what_they_are_worth() -> None:
    nearly = np.full((40, 40), 0.98) + 0.02 * np.eye(40)
    assert variance_effect(drawn(np.eye(40), 1), nearly) == pytest.approx(nearly.sum() / 40)


def test_an_interval_is_widened_around_its_mean() -> None:
    rng = np.random.default_rng(2)
    a, b = (
        [DocumentScore(document_id=f"d{n}", nats=float(value), tokens=7, exact=False) for n, value in enumerate(values)]
        for values in rng.uniform(1, 9, size=(2, 40))
    )
    plain, nearly = paired_difference(a, b), np.full((40, 40), 0.98) + 0.02 * np.eye(40)
    assert paired_difference(a, b, shares=np.eye(40)) == plain
    wide = paired_difference(a, b, shares=nearly)
    assert [plain.widened, wide.widened] == pytest.approx([1.0, np.sqrt(nearly.sum() / 40)])
    assert wide.mean == plain.mean
    assert wide.high - wide.mean == pytest.approx(wide.widened * (plain.high - plain.mean))
    assert wide.mean - wide.low == pytest.approx(wide.widened * (plain.mean - plain.low))
