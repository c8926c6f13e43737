"""The contract of :class:`workers.base.Scorer` as tests: subclass, and provide the `settings` fixture."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pytest

from evaluation.documents.needle import NeedleDocument
from evaluation.scores.score import DocumentScore
from ropewalk.errors import InvalidRescaleFactors
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from tests.helpers.samples import IDENTITY, ROPE, STRETCHED, TARGET_LENGTH, document, documents
from workers.base import Scorer, ScorerSettings
from workers.errors import DocumentTooLong, ScorerClosed
from workers.factory import make_scorer


def score(
    scorer: Scorer,
    documents: Sequence[NeedleDocument],
    *,
    factors: RescaleFactors = STRETCHED,
    attention_factor: float = 1.0,
) -> tuple[DocumentScore, ...]:
    return scorer.score(Scaling(factors, attention_factor), documents)


class ScorerConformance:
    @pytest.fixture
    def scorer(self, settings: ScorerSettings) -> Iterator[Scorer]:
        opened = make_scorer(settings)
        yield opened
        opened.close()

    def test_same_question_same_answer(self, scorer: Scorer) -> None:
        assert score(scorer, documents(3)) == score(scorer, documents(3))

    def test_candidates_leave_no_trace(self, scorer: Scorer) -> None:
        first = score(scorer, documents(3), factors=STRETCHED, attention_factor=1.1)
        between = score(scorer, documents(3), factors=IDENTITY)
        assert score(scorer, documents(3), factors=STRETCHED, attention_factor=1.1) == first
        assert between != first

    def test_another_scorer_says_the_same(self, scorer: Scorer, settings: ScorerSettings) -> None:
        other = make_scorer(settings)
        assert score(other, documents(2)) == score(scorer, documents(2))
        assert other.info.fingerprint() == scorer.info.fingerprint()
        other.close()

    def test_a_documents_id_names_its_score_and_decides_nothing(self, scorer: Scorer) -> None:
        """So that a score may be kept by content: see evaluation/documents/score_key.py."""
        one = document(0)
        renamed = dataclasses.replace(one, id="validation-7", split="validation", depth=0.25, depths=(0.25,))
        first, second = score(scorer, [one])[0], score(scorer, [renamed])[0]
        assert second == dataclasses.replace(first, document_id="validation-7")

    def test_order_is_kept_over_mixed_lengths(self, scorer: Scorer) -> None:
        mixed = tuple(document(index, length=length) for index, length in enumerate((256, 64, 200, 64, 256, 33, 64)))
        together = score(scorer, mixed)
        assert [one.document_id for one in together] == [one.id for one in mixed]
        assert score(scorer, mixed[::-1]) == together[::-1]

    def test_batch_equals_single(self, scorer: Scorer) -> None:
        mixed = (*documents(5), *documents(5, length=64), *documents(2, length=64, needles=2))
        for together, one in zip(score(scorer, mixed), mixed, strict=True):
            (alone,) = score(scorer, [one])
            assert together.nats == pytest.approx(alone.nats, abs=1e-6 * alone.tokens)
            assert together.exact == alone.exact

    def test_tokens_are_answer_tokens_of_all_spans(self, scorer: Scorer) -> None:
        one, two = score(scorer, [document(0, answer_tokens=5), document(0, needles=3, answer_tokens=7)])
        assert (one.tokens, two.tokens) == (5, 21)

    def test_nats_are_not_all_alike(self, scorer: Scorer) -> None:
        assert len({one.nats for one in score(scorer, documents(6))}) == 6

    def test_identity_is_accepted_at_every_length(self, scorer: Scorer) -> None:
        for length in (32, 64, 65, TARGET_LENGTH):
            assert len(score(scorer, documents(1, length=length), factors=IDENTITY)) == 1

    def test_factors_matter_within_the_original_length_too(self, scorer: Scorer) -> None:
        short = documents(2, length=48)
        assert score(scorer, short, factors=IDENTITY) != score(scorer, short, factors=STRETCHED)

    def test_attention_factor_matters(self, scorer: Scorer) -> None:
        plain, scaled = (score(scorer, documents(1), attention_factor=value)[0].nats for value in (1.0, 1.3))
        assert abs(plain - scaled) > 1e-3

    def test_no_documents_no_scores(self, scorer: Scorer) -> None:
        assert score(scorer, []) == ()

    @pytest.mark.parametrize("count", [ROPE.num_pairs - 1, ROPE.num_pairs + 1])
    def test_wrong_number_of_factors_is_refused(self, scorer: Scorer, count: int) -> None:
        with pytest.raises(InvalidRescaleFactors, match=str(count)):
            score(scorer, documents(1), factors=RescaleFactors.identity(count))

    def test_refusal_leaves_the_scorer_usable(self, scorer: Scorer) -> None:
        before = score(scorer, documents(1))
        with pytest.raises(InvalidRescaleFactors):
            scorer.score(Scaling.identity(ROPE.num_pairs - 1), documents(1))
        assert score(scorer, documents(1)) == before

    def test_too_long_document_is_refused_with_both_lengths(self, scorer: Scorer) -> None:
        with pytest.raises(DocumentTooLong, match=rf"{TARGET_LENGTH} tokens.*{TARGET_LENGTH + 1} tokens"):
            score(scorer, [document(0), document(1, length=TARGET_LENGTH + 1)])

    def test_closed_scorer_refuses(self, settings: ScorerSettings) -> None:
        scorer = make_scorer(settings)
        scorer.close()
        scorer.close()
        assert scorer.info.model_sha256
        with pytest.raises(ScorerClosed):
            score(scorer, documents(1))
