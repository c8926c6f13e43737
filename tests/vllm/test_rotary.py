"""Factors swapped into a running engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from api.cli import run
from ropewalk.rope.rescale_factors import RescaleFactors
from tests.helpers.samples import documents
from tests.helpers.scorer_conformance import score
from tests.helpers.vllm_models import vllm_settings
from workers.errors import DocumentTooLong, ScorerUnavailable
from workers.factory import make_scorer
from workers.vllm_backend.scorer import VllmScorer

PAIRS = 16


def test_one_engine_for_fifty_candidates(pocket_scorer: VllmScorer) -> None:
    samples = documents(2, length=48)
    candidates = [RescaleFactors((1.0, *(1.0 + 0.1 * number,) * (PAIRS - 1))) for number in range(50)]
    first = [score(pocket_scorer, samples, factors=factors) for factors in candidates]
    assert len({one.nats for scores in first for one in scores}) == 100
    assert [score(pocket_scorer, samples, factors=factors) for factors in candidates[::-1]] == first[::-1]
    assert pocket_scorer.engine_starts == 1


def test_a_document_that_is_too_long_never_reaches_the_engine(pocket_scorer: VllmScorer) -> None:
    with pytest.raises(DocumentTooLong, match="target_length=1536 tokens, but got 1537"):
        score(pocket_scorer, documents(1, length=1537), factors=RescaleFactors.identity(PAIRS))


def test_an_unknown_rotary_class_is_refused_by_name(
    forked_child: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    forked_child("unknown_rotary")
    score_pocket = ["score", "--model", "pocket", "--factors", "yarn", "--target-length", "512", "--documents", "1"]
    assert run([*score_pocket, "--backend", "vllm"]) != 0
    told = capsys.readouterr().err.strip()
    assert "vLLM must be able to score " in told
    assert ", but a model's rotary modules must be vLLM's RotaryEmbedding or " in told
    assert told.endswith(".HouseRotaryEmbedding")
    assert "\n" not in told


def test_a_table_that_is_not_what_was_written_is_noticed(forked_child: Callable[[str], None]) -> None:
    forked_child("deaf_rotary")
    with pytest.raises(
        ScorerUnavailable, match=r"every rank must rotate with the candidate's table, digest .* read back"
    ):
        make_scorer(vllm_settings())


@pytest.mark.usefixtures("forked_engines")
def test_what_does_not_fit_the_free_memory_is_refused_before_loading() -> None:
    words = r"but a model must fit the free memory of cpu .* 0\.00 GiB of weights over 1 rank and .* of KV cache for"
    with pytest.raises(ScorerUnavailable, match=words):
        VllmScorer(vllm_settings(target_length=1_000_000_000))


def test_more_ranks_than_gpus_are_refused() -> None:
    with pytest.raises(ScorerUnavailable, match="tensor_parallel=2 with 0 GPUs"):
        make_scorer(vllm_settings(tensor_parallel=2))


@pytest.mark.timeout(300)
def test_every_rank_has_the_candidate(pocket_scorer: VllmScorer, forked_child: Callable[[str], None]) -> None:
    """Two ranks as two processes on the CPU, which only tests ask for: each holds a table of its own."""
    forked_child("two_ranks")
    samples = documents(3, length=48)
    two = VllmScorer(vllm_settings(tensor_parallel=2))
    for factors in (RescaleFactors.identity(PAIRS), RescaleFactors((1.0, *(3.0,) * (PAIRS - 1)))):
        for mine, theirs in zip(
            score(two, samples, factors=factors), score(pocket_scorer, samples, factors=factors), strict=True
        ):
            assert mine.nats == pytest.approx(theirs.nats, abs=1e-4 * mine.tokens)
    assert "2 ranks" in two.info.arithmetic
    two.close()
