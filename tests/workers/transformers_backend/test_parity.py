"""The swapped-in factors against transformers' own reading of a config, full logits and all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from evaluation.documents.needle import NeedleDocument
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.baselines import baseline, own_attention_factor
from tests.helpers.samples import (
    IDENTITY,
    ORIGINAL_LENGTH,
    ROPE,
    STRETCHED,
    TARGET_LENGTH,
    document,
    documents,
    llama_config,
    longrope_config,
    save_llama,
)
from tests.helpers.scorer_conformance import score
from workers.base import ScorerSettings
from workers.factory import make_scorer

YARN = {
    "rope_type": "yarn",
    "rope_theta": ROPE.rope_theta,
    "factor": TARGET_LENGTH / ORIGINAL_LENGTH,
    "original_max_position_embeddings": ORIGINAL_LENGTH,
}


def reference_nats(path: Path, config: transformers.LlamaConfig, one: NeedleDocument) -> tuple[float, bool]:
    """A plain forward pass with a model built from `config`: logits everywhere, KV cache on, eager attention."""
    model: Any = transformers.LlamaForCausalLM.from_pretrained(path, config=config, attn_implementation="eager")
    model.eval()
    ids = torch.tensor([one.token_ids])
    with torch.no_grad():
        log_probabilities = model(ids).logits[0].double().log_softmax(-1)
    positions = [position for span in one.answer_spans for position in range(*span)]
    nats = -sum(float(log_probabilities[position - 1, one.token_ids[position]]) for position in positions)
    exact = all(int(log_probabilities[position - 1].argmax()) == one.token_ids[position] for position in positions)
    return nats, exact


@pytest.mark.parametrize("attention_factor", [1.0, 1.15])
@pytest.mark.parametrize("factors", [IDENTITY, STRETCHED], ids=["identity", "stretched"])
def test_longrope_beyond_the_original_length(
    tiny_model: Path, transformers_settings: ScorerSettings, factors: RescaleFactors, attention_factor: float
) -> None:
    scorer = make_scorer(transformers_settings)
    samples = (*documents(2), document(3, needles=3), document(4, length=ORIGINAL_LENGTH + 1))
    found = score(scorer, samples, factors=factors, attention_factor=attention_factor)
    for one, sample in zip(found, samples, strict=True):
        nats, exact = reference_nats(tiny_model, longrope_config(factors, attention_factor), sample)
        assert one.nats == pytest.approx(nats, abs=1e-5 * one.tokens)
        assert one.exact == exact


def test_plain_model_at_identity(tiny_model: Path, transformers_settings: ScorerSettings) -> None:
    (found,) = score(make_scorer(transformers_settings), [document(0, length=40)], factors=IDENTITY)
    nats, _ = reference_nats(tiny_model, llama_config(), document(0, length=40))
    assert found.nats == pytest.approx(nats, abs=1e-5 * found.tokens)


def test_yarn_with_its_own_attention_factor(tiny_model: Path, transformers_settings: ScorerSettings) -> None:
    candidate = baseline("yarn", ROPE, TARGET_LENGTH)
    attention_factor = own_attention_factor("yarn", ROPE, TARGET_LENGTH)
    (found,) = score(
        make_scorer(transformers_settings),
        [document(0)],
        factors=candidate.scaling.factors,
        attention_factor=attention_factor,
    )
    config = llama_config(max_position_embeddings=TARGET_LENGTH, rope_parameters=YARN)
    nats, _ = reference_nats(tiny_model, config, document(0))
    assert found.nats == pytest.approx(nats, abs=1e-5 * found.tokens)


def test_exact_means_first_choice_on_every_answer_token(
    tiny_model: Path, transformers_settings: ScorerSettings
) -> None:
    """Answers written by the model itself are exact; one token changed, they are not."""
    model: Any = transformers.LlamaForCausalLM.from_pretrained(tiny_model)
    model.eval()
    ids = list(document(0, length=40).token_ids[:33])
    with torch.no_grad():
        while len(ids) < 40:
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    scorer = make_scorer(transformers_settings)
    right = _with_tokens(document(0, length=40), ids)
    wrong = _with_tokens(document(1, length=40), [*ids[:-1], (ids[-1] + 1) % 64])
    assert [one.exact for one in score(scorer, [right, wrong], factors=IDENTITY)] == [True, False]


def _with_tokens(one: NeedleDocument, ids: list[int]) -> NeedleDocument:
    values = {name: getattr(one, name) for name in NeedleDocument.__slots__}
    return NeedleDocument(**{**values, "token_ids": tuple(ids)})


class TestExportedModel:
    """A checkpoint whose config already says `longrope`, as fine-tuning leaves it."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> ScorerSettings:
        path = save_llama(tmp_path / "exported", longrope_config(STRETCHED, 1.15))
        return ScorerSettings(
            model=str(path),
            dtype="float32",
            target_length=TARGET_LENGTH,
            original_length=ORIGINAL_LENGTH,
            rope=ROPE,
            threads=1,
        )

    def test_the_factors_given_are_the_ones_used(
        self, settings: ScorerSettings, transformers_settings: ScorerSettings
    ) -> None:
        """Short and long documents by turns, which makes transformers swap factors if it still can."""
        samples = (document(0), document(1, length=40), document(2), document(3, length=40), document(4))
        plain, exported = make_scorer(transformers_settings), make_scorer(settings)
        for key in ((IDENTITY, 1.0), (STRETCHED, 1.15), (IDENTITY, 1.15), (STRETCHED, 1.0)):
            assert exported.score(Scaling(*key), samples) == plain.score(Scaling(*key), samples)

    def test_its_own_factors_give_its_own_scores(self, settings: ScorerSettings) -> None:
        found = score(make_scorer(settings), [document(0)], factors=STRETCHED, attention_factor=1.15)
        nats, _ = reference_nats(Path(settings.model), longrope_config(STRETCHED, 1.15), document(0))
        assert found[0].nats == pytest.approx(nats, abs=1e-5 * found[0].tokens)


def test_bfloat16_weights_keep_float32_angles(transformers_settings: ScorerSettings, tiny_model: Path) -> None:
    settings = ScorerSettings(
        model=str(tiny_model), dtype="bfloat16", target_length=TARGET_LENGTH, original_length=ORIGINAL_LENGTH, threads=1
    )
    scorer = make_scorer(settings)
    assert scorer.info.dtype == "bfloat16"
    full, half = (score(one, documents(4)) for one in (make_scorer(transformers_settings), scorer))
    per_token = [abs(a.nats - b.nats) / a.tokens for a, b in zip(full, half, strict=True)]
    assert 0 < max(per_token) < 0.2
