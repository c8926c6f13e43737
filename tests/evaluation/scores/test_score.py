"""Sums over counts, their errors, and differences on the same documents."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.documents.factory import DocumentFactory, DocumentRequest
from evaluation.errors import InvalidScores
from evaluation.scores.score import DocumentScore, PairedDifference, by_depth_bins, paired_difference, summarise

pairs = st.lists(st.tuples(st.floats(0, 50), st.integers(1, 30), st.booleans()), min_size=1, max_size=30)


def scores_of(rows: list[tuple[float, int, bool]]) -> tuple[DocumentScore, ...]:
    return tuple(
        DocumentScore(document_id=f"d{at}", nats=nats, tokens=tokens, exact=exact)
        for at, (nats, tokens, exact) in enumerate(rows)
    )


def test_a_mean_is_over_tokens_not_documents() -> None:
    summary = summarise(scores_of([(7.0, 7, False), (0.0, 21, True)]))
    assert summary.nll == pytest.approx(0.25)  # the mean of means would be 0.5
    assert summary.perplexity == pytest.approx(math.exp(0.25))
    assert (summary.exact_match, summary.documents, summary.tokens) == (0.5, 2, 28)


@given(rows=pairs)
def test_a_summary_does_not_depend_on_order(rows: list[tuple[float, int, bool]]) -> None:
    scores = scores_of(rows)
    forth, back = summarise(scores), summarise(scores[::-1])
    assert forth.nll == pytest.approx(back.nll, abs=1e-12)
    assert min(row[0] / row[1] for row in rows) - 1e-9 <= forth.nll <= max(row[0] / row[1] for row in rows) + 1e-9
    assert 0 <= forth.exact_match <= 1
    assert (forth.nll_standard_error is None) == (len(rows) == 1)


def test_the_standard_error_of_equal_documents_is_the_textbook_one() -> None:
    nats = [1.0, 4.0, 2.0, 9.0, 3.5]
    summary = summarise(scores_of([(value, 7, False) for value in nats]))
    assert summary.nll_standard_error == pytest.approx(np.std(nats, ddof=1) / 7 / math.sqrt(5))


def test_the_standard_error_is_the_spread_over_repeated_draws() -> None:
    rng = np.random.default_rng(0)

    def draw() -> tuple[float, float]:
        tokens = rng.integers(3, 12, size=60)
        summary = summarise(scores_of([(float(rng.exponential(0.4) * count), int(count), False) for count in tokens]))
        assert summary.nll_standard_error is not None
        return summary.nll, summary.nll_standard_error

    means, errors = np.array([draw() for _ in range(400)]).T
    assert np.std(means) == pytest.approx(np.mean(errors), rel=0.12)


def test_a_hopeless_score_has_infinite_perplexity() -> None:
    assert summarise(scores_of([(9000.0, 1, False)])).perplexity == math.inf


def test_a_difference_is_paired() -> None:
    rng = np.random.default_rng(1)
    hard = rng.exponential(5.0, size=80)  # what both share is far larger than what they differ by
    a = scores_of([(float(nats) + 0.7, 7, False) for nats in hard])
    b = scores_of([(float(nats), 7, False) for nats in hard])
    difference = paired_difference(a, b[::-1])
    assert difference.mean == pytest.approx(0.1)
    assert (difference.low, difference.high) == pytest.approx((0.1, 0.1))


@settings(max_examples=30, deadline=None)
@given(rows=pairs, seed=st.integers(0, 2**40))
def test_a_difference_turns_with_its_sides(rows: list[tuple[float, int, bool]], seed: int) -> None:
    a = scores_of(rows)
    b = scores_of([(nats / 2 + 1, tokens, exact) for nats, tokens, exact in rows[::-1]])
    forth, back = (paired_difference(*sides, seed=seed, resamples=700) for sides in ((a, b), (b, a)))
    expected = PairedDifference(mean=-back.mean, low=-back.high, high=-back.low)
    assert (forth.mean, forth.low, forth.high) == pytest.approx((expected.mean, expected.low, expected.high), abs=1e-9)
    assert forth == paired_difference(a, b, seed=seed, resamples=700)
    assert forth.low <= forth.high


@given(
    mean=st.floats(-5, 5).filter(lambda mean: abs(mean) > 1e-3),
    reach=st.floats(0.01, 5),
    documents=st.integers(2, 2000),
)
def test_the_documents_that_would_tell_leave_zero_just_out(mean: float, reach: float, documents: int) -> None:
    found = PairedDifference(mean=mean, low=mean - reach, high=mean + reach)
    wanted = found.documents_to_tell(documents)
    assert wanted is not None
    assert reach * (documents / wanted) ** 0.5 <= abs(mean) * (1 + 1e-9)
    assert wanted == 1 or reach * (documents / (wanted - 1)) ** 0.5 >= abs(mean) * (1 - 1e-9)
    assert PairedDifference(mean=0.0, low=-reach, high=reach).documents_to_tell(documents) is None


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)

    def covered(seed: int) -> bool:
        base = rng.exponential(2.0, size=50)
        a = scores_of([(float(nats + rng.exponential(0.7)), 7, False) for nats in base])
        b = scores_of([(float(nats), 7, False) for nats in base])
        found = paired_difference(a, b, seed=seed, resamples=400)
        return found.low <= 0.1 <= found.high

    assert 0.86 <= np.mean([covered(seed) for seed in range(150)]) <= 1.0


@pytest.mark.parametrize(
    ("nats", "tokens", "said"),
    [
        (math.nan, 7, "nats must be finite and at least 0, but got nats=nan of 'd0'"),
        (math.inf, 7, "nats must be finite"),
        (-1.0, 7, "nats=-1.0"),
        (1.0, 0, "tokens must be at least 1, but got tokens=0 of 'd0'"),
    ],
)
def test_a_score_without_meaning_is_refused(nats: float, tokens: int, said: str) -> None:
    with pytest.raises(InvalidScores, match=re.escape(said)):
        DocumentScore(document_id="d0", nats=nats, tokens=tokens, exact=False)


def test_scores_that_do_not_belong_together_are_refused() -> None:
    a = scores_of([(1.0, 7, True), (2.0, 7, True)])
    with pytest.raises(InvalidScores, match="at least one document score"):
        summarise(())
    with pytest.raises(InvalidScores, match="'d0' more than once"):
        summarise(a + a[:1])
    with pytest.raises(InvalidScores, match=re.escape("1 are on one side only: ['d1']")):
        paired_difference(a, a[:1])
    with pytest.raises(InvalidScores, match="resamples=0"):
        paired_difference(a, a, resamples=0)


def test_depth_bins_hold_every_score_once(factory: DocumentFactory) -> None:
    documents = factory.build(DocumentRequest(target_length=600, count=24, seed=0))
    scores = tuple(
        DocumentScore(document_id=document.id, nats=7 * document.depth, tokens=7, exact=document.depth > 0.8)
        for document in documents
    )
    depths = {document.id: document.depth for document in documents}
    bins = by_depth_bins(depths, scores, 5)
    assert [(found.low, found.high) for found in bins] == [(at / 5, (at + 1) / 5) for at in range(5)]
    assert sum(found.summary.documents for found in bins if found.summary) == 24
    assert all(found.summary and found.low - 1e-9 <= found.summary.nll <= found.high for found in bins)
    assert [found.summary and found.summary.exact_match for found in bins] == [0, 0, 0, 0, 1]
    assert [found.summary is None for found in by_depth_bins(depths, scores[:1], 4)].count(True) == 3


def test_depth_bins_refuse_strangers() -> None:
    with pytest.raises(InvalidScores, match="of known depth, but got 'd0'"):
        by_depth_bins({"d1": 0.5}, scores_of([(1.0, 7, True)]), 5)
    with pytest.raises(InvalidScores, match="bins=0"):
        by_depth_bins({}, (), 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_derivatives_must_be_finite(bad: float) -> None:
    with pytest.raises(InvalidScores, match=r"derivatives must be finite, but got .* of 'd'"):
        DocumentScore(document_id="d", nats=1.0, tokens=7, exact=True, gradient=(0.5, bad))
    assert DocumentScore(document_id="d", nats=1.0, tokens=7, exact=True, gradient=(0.5, -1e300)).gradient is not None
