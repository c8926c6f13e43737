"""The benchmark's own scorer gives the product's numbers."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.search.pocket_scorer import PocketScorer
from evaluation.documents.needle import NeedleDocument
from evaluation.documents.skipping import Skipping
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.baselines import baseline
from service.searches.model import prepare_model
from workers.base import ScorerSettings
from workers.transformers_backend.scorer import TransformersScorer

TARGET_LENGTH = 512


@pytest.fixture(scope="module")
def documents() -> tuple[NeedleDocument, ...]:
    model = prepare_model("pocket", corpus=None, target_length=TARGET_LENGTH)
    one = model.documents(split="search", length=TARGET_LENGTH, count=3, needles=1, seed=3)
    several = model.documents(split="validation", length=TARGET_LENGTH, count=1, needles=3, seed=3)
    skipping = Skipping(tokens=200, gaps=2)
    return (
        one
        + several
        + model.documents(split="search", length=TARGET_LENGTH, count=2, needles=1, seed=3, skipping=skipping)
    )


@pytest.mark.parametrize(("name", "attention_factor"), [("none", 1.0), ("yarn", 1.2), ("pi", 0.9)])
def test_nats_are_those_of_transformers(
    documents: tuple[NeedleDocument, ...], tmp_path: Path, name: str, attention_factor: float
) -> None:
    settings = ScorerSettings(model="pocket", target_length=TARGET_LENGTH, original_length=256, threads=1)
    candidate = baseline(name, prepare_model("pocket", corpus=None).rope, TARGET_LENGTH)
    scaling = replace(candidate.scaling, attention_factor=attention_factor)
    expected = TransformersScorer(settings).score(scaling, documents)
    found = PocketScorer(tmp_path / "s").score(scaling, documents)
    for one, other in zip(found, expected, strict=True):
        assert (one.document_id, one.tokens, one.exact) == (other.document_id, other.tokens, other.exact)
        assert one.nats / one.tokens == pytest.approx(other.nats / other.tokens, abs=1e-5)


def test_a_known_score_costs_no_pass(documents: tuple[NeedleDocument, ...], tmp_path: Path) -> None:
    factors = RescaleFactors.identity(16)
    first = PocketScorer(tmp_path / "s")
    scores = first.score(Scaling(factors, 1.0), documents)
    again = PocketScorer(tmp_path / "s")
    assert again.score(Scaling(factors, 1.0), documents[::-1]) == scores[::-1]
    assert (first.passes, again.passes) == (len(documents), 0)


def test_documents_with_one_name_and_other_needles_have_their_own_scores(tmp_path: Path) -> None:
    model = prepare_model("pocket", corpus=None, target_length=TARGET_LENGTH)
    one, other = (
        model.documents(split="search", length=TARGET_LENGTH, count=1, needles=needles, seed=3) for needles in (1, 3)
    )
    assert one[0].id == other[0].id
    scorer = PocketScorer(tmp_path / "s")
    found = [scorer.score(Scaling(RescaleFactors.identity(16), 1.0), documents)[0] for documents in (one, other)]
    assert [score.tokens for score in found] == [one[0].answer_tokens, other[0].answer_tokens]
