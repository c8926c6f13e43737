"""The contract of scoring, and the same numbers as transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.documents.needle import NeedleDocument
from evaluation.models.source import resolve_model
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.baselines import baseline, own_attention_factor
from tests.helpers.samples import document, documents
from tests.helpers.scorer_conformance import ScorerConformance, score
from tests.helpers.vllm_models import POCKET_ORIGINAL, POCKET_TARGET, spread, vllm_settings
from workers.base import DifferentiableScorer, Scorer, ScorerSettings
from workers.factory import BackendChoice, choose_backend
from workers.transformers_backend.scorer import TransformersScorer
from workers.vllm_backend.scorer import VllmScorer
from workers.vllm_backend.version import vllm_problem

PER_TOKEN = 1e-4  # nats: how far apart two programs may be in float32
CANDIDATES = ("plain", "yarn", "random-1", "random-2")


class TestVllmScorer(ScorerConformance):
    """On a Phi-3, with vLLM's longrope class; a second scorer and a closed one are in test_engine_life.py."""

    @pytest.fixture
    def settings(self, phi3_settings: ScorerSettings) -> ScorerSettings:
        return phi3_settings

    @pytest.fixture
    def scorer(self, phi3_scorer: VllmScorer) -> VllmScorer:  # shared, so not closed
        return phi3_scorer

    test_another_scorer_says_the_same = test_closed_scorer_refuses = None  # type: ignore[assignment]

    def test_bits_do_not_depend_on_companions(self, scorer: Scorer) -> None:
        mixed = (*documents(5), *documents(3, length=64), *documents(1, length=200))
        together = score(scorer, mixed)
        assert together == tuple(score(scorer, [one])[0] for one in mixed)

    def test_longrope_in_the_config_scores_as_with_transformers(self, scorer: Scorer, settings: ScorerSettings) -> None:
        mixed = (*documents(3), *documents(3, length=48))
        _compare(scorer, TransformersScorer(settings), resolve_model(settings.model, original_length=64).rope, mixed)


def test_the_pocket_model_scores_as_with_transformers(pocket_scorer: VllmScorer) -> None:
    """Lengths within, just beyond and far beyond the original one; the longest takes two steps."""
    lengths = (64, POCKET_ORIGINAL, POCKET_ORIGINAL + 1, 700, POCKET_TARGET)
    mixed = [spread(document(index, length=length, needles=2), 1024) for index, length in enumerate(lengths)]
    rope = resolve_model("pocket", original_length=POCKET_ORIGINAL).rope
    _compare(pocket_scorer, TransformersScorer(vllm_settings()), rope, mixed)


def test_positions_that_jump_score_as_with_transformers(pocket_scorer: VllmScorer) -> None:
    """Full documents between them: a table is not left to the next."""
    rope = resolve_model("pocket", original_length=POCKET_ORIGINAL).rope
    full = [spread(document(index, length=200, needles=2), 1024) for index in range(3)]
    jumps = ((), ((40, 700),), ((20, 100), (90, 500)))
    mixed = [replace(one, jumps=jump) for one in full for jump in jumps]
    _compare(pocket_scorer, TransformersScorer(vllm_settings()), rope, mixed)


@pytest.mark.usefixtures("forked_engines")
def test_a_real_model_scores_as_with_transformers(smollm2: Path) -> None:
    settings = vllm_settings(model=str(smollm2), original_length=64, target_length=160)
    scorer = VllmScorer(settings)
    mixed = [spread(document(index, length=length), 49152) for index, length in enumerate((32, 160))]
    _compare(scorer, TransformersScorer(settings), resolve_model(str(smollm2), original_length=64).rope, mixed)
    scorer.close()


def test_the_second_runner_scores_answers_only(child: Callable[[str], None]) -> None:
    """As on a GPU: the V2 runner computes logits for the answers' rows alone."""
    child("v2_runner")
    settings = vllm_settings(target_length=POCKET_ORIGINAL)
    scorer = VllmScorer(settings)
    assert "V2 runner with prompt_logprob_token_ids" in scorer.info.arithmetic
    mixed = [spread(document(index, length=length, needles=2), 1024) for index, length in enumerate((64, 200))]
    rope = resolve_model("pocket", original_length=POCKET_ORIGINAL).rope
    _compare(scorer, TransformersScorer(settings), rope, mixed, names=("plain",))
    scorer.close()


def test_exact_means_first_choice_on_every_answer_token(pocket_scorer: VllmScorer) -> None:
    """Spans moved over a document until transformers finds both kinds."""
    samples = [document(index, length=64, answer_tokens=1) for index in range(200)]
    same = [spread(one, 1024) for one in samples]
    rope = resolve_model("pocket", original_length=POCKET_ORIGINAL).rope
    factors = RescaleFactors.identity(rope.num_pairs)
    repeated = [_with_last(one, one.token_ids[-2]) for one in same]
    expected = score(TransformersScorer(vllm_settings()), repeated, factors=factors)
    found = score(pocket_scorer, repeated, factors=factors)
    assert [one.exact for one in found] == [one.exact for one in expected]
    assert {one.exact for one in found} == {True, False}


def test_auto_wants_a_gpu_too() -> None:
    assert vllm_problem() is None
    assert choose_backend("auto") == BackendChoice(backend="transformers", reason="torch sees no GPU")


def test_what_produced_a_score_is_recorded(pocket_scorer: VllmScorer) -> None:
    info = pocket_scorer.info
    assert (info.backend, info.dtype) == ("vllm", "float32")
    for part in ("V1 runner with prompt_logprobs=0", "CPU_ATTN", "1 ranks", "1 threads"):
        assert part in info.arithmetic
    assert "vllm 0.32.0" in info.version
    assert not isinstance(pocket_scorer, DifferentiableScorer)


def _compare(
    scorer: Scorer,
    transformers: Scorer,
    rope: RopeConfig,
    mixed: Sequence[NeedleDocument],
    *,
    names: Sequence[str] = CANDIDATES,
) -> None:
    target_length = max(len(one.token_ids) for one in mixed)
    for name in names:
        scaling = _candidate(name, rope, target_length)
        found, expected = (one.score(scaling, mixed) for one in (scorer, transformers))
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.nats == pytest.approx(theirs.nats, abs=PER_TOKEN * mine.tokens), (name, mine.document_id)
            assert mine.exact == theirs.exact


def _candidate(name: str, rope: RopeConfig, target_length: int) -> Scaling:
    if name == "plain":
        return Scaling.identity(rope.num_pairs)
    if name == "yarn":
        length = max(target_length, 4 * rope.original_max_position_embeddings)
        return Scaling(baseline("yarn", rope, length).scaling.factors, own_attention_factor("yarn", rope, length))
    random = np.random.default_rng(int(name.removeprefix("random-")))
    values = np.maximum.accumulate(random.uniform(1.0, 8.0, rope.num_pairs))
    return Scaling(RescaleFactors(tuple(values.tolist())), float(random.uniform(0.9, 1.2)))


def _with_last(one: NeedleDocument, token: int) -> NeedleDocument:
    values = {name: getattr(one, name) for name in NeedleDocument.__slots__}
    return NeedleDocument(**{**values, "token_ids": (*one.token_ids[:-1], token)})
