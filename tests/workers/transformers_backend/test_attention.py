"""Models with windows, capped logits or sinks are scored and read without T x T numbers, to what their code says."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, MistralModel

from evaluation.architecture.attention import ATTENTION
from evaluation.documents.corpus import load_corpus
from evaluation.documents.factory import DocumentFactory, DocumentRequest
from evaluation.documents.needle import NeedleDocument
from evaluation.documents.skipping import Skipping, positions_of
from evaluation.models.source import load_tokenizer, resolve_model
from evaluation.scores.served_rope import ServedRope
from ropewalk.rope.scaling import Scaling
from service.searches.model import scorer_settings
from service.specs.search import ScorerSpec
from tests.helpers.largest_tensor import LargestTensor
from tests.helpers.paths import POCKET
from workers.base import ScorerSettings
from workers.transformers_backend.attention import choose_attention
from workers.transformers_backend.generator import TransformersGenerator
from workers.transformers_backend.loaded import LoadedScorer
from workers.transformers_backend.scorer import TransformersScorer

WINDOW, TARGET = 48, 512


HOW: dict[str, dict[str, Any]] = {
    "mistral": {"model_type": "mistral", "architectures": ["MistralForCausalLM"]},
    "gemma2": {
        "model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "attn_logit_softcapping": 1.0,
        "query_pre_attn_scalar": 32, "hidden_activation": "gelu_pytorch_tanh",
    },
    "gpt_oss": {
        "model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "num_local_experts": 2,
        "num_experts_per_tok": 1, "intermediate_size": 32,
    },
}  # fmt: skip


LARGE = {"gemma2": 5.0, "gpt_oss": 3.0}  # with more, rounding to bfloat16 is all that is left of gpt-oss


@pytest.fixture(scope="module", params=LARGE)
def hand_made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: large ones, so that logits meet their cap, and sinks that take a good part."""
    path = tmp_path_factory.mktemp(request.param) / "model"
    shutil.copytree(POCKET, path, ignore=shutil.ignore_patterns("*.safetensors", "*.json.index"))
    config = json.loads((path / "config.json").read_text()) | HOW[request.param] | {"sliding_window": WINDOW}
    (path / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "sinks" in name:
                parameter.add_(4.0)
            elif parameter.ndim > 1:
                parameter.mul_(LARGE[request.param])
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pocket model's weights as those of a Mistral, whose layers see the last 48 tokens."""
    path = tmp_path_factory.mktemp("windowed") / "model"
    shutil.copytree(POCKET, path)
    config = json.loads((path / "config.json").read_text())
    config |= HOW["mistral"] | {"sliding_window": WINDOW}
    (path / "config.json").write_text(json.dumps(config))
    return path


def _settings(path: Path, target_length: int = TARGET) -> ScorerSettings:
    """As a job has them: with the RoPE that was read before."""
    rope = resolve_model(str(path), original_length=32).rope
    spec = ScorerSpec(backend="transformers", dtype="float32")
    return replace(scorer_settings(spec, str(path), rope, target_length), threads=1)


def _documents(path: Path, skipping: Skipping | None = None) -> tuple[NeedleDocument, ...]:
    factory = DocumentFactory(load_tokenizer(resolve_model(str(path))), load_corpus(None))
    return factory.build(DocumentRequest(target_length=TARGET, count=2, seed=0, skipping=skipping))


def _plain(path: Path) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    assert model.config.sliding_window == WINDOW
    return model


def _nats(model: Any, document: NeedleDocument) -> float:
    length = len(document.token_ids)
    positions = torch.from_numpy(positions_of(length, document.jumps))[None]
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([document.token_ids]),
            position_ids=positions,
            attention_mask=torch.ones_like(positions),
            use_cache=False,
        ).logits[0]
    logs = torch.log_softmax(logits.double(), dim=-1)
    return -sum(logs[at - 1, document.token_ids[at]].item() for span in document.answer_spans for at in range(*span))


@pytest.mark.parametrize("skipping", [None, Skipping(tokens=200, gaps=2)], ids=["full", "skipped"])
def test_scores_are_those_of_the_model_with_its_masks(windowed: Path, skipping: Skipping | None) -> None:
    scorer, documents = TransformersScorer(_settings(windowed)), _documents(windowed, skipping)
    found, plain = scorer.score(Scaling.identity(16), documents), _plain(windowed)
    for document, score in zip(documents, found, strict=True):
        assert score.nats == pytest.approx(_nats(plain, document), abs=1e-4 * score.tokens)


def test_caps_and_sinks_are_applied_as_the_models_code_does(hand_made: Path) -> None:
    """torch's kernels, which transformers takes for a Gemma 2, leave the cap out."""
    scorer, documents, plain = TransformersScorer(_settings(hand_made)), _documents(hand_made), _plain(hand_made)
    found = scorer.score(Scaling.identity(16), documents)
    expected = [_nats(plain, document) for document in documents]
    assert [score.nats for score in found] == pytest.approx(expected, rel=1e-4)
    plain.config.get_text_config().attn_logit_softcapping = None
    for module in plain.modules():
        if hasattr(module, "attn_logit_softcapping"):
            module.attn_logit_softcapping = None
        if hasattr(module, "sinks"):
            module.sinks.data.fill_(-1e4)
    assert _nats(plain, documents[0]) != pytest.approx(expected[0], rel=5e-3), "there is nothing to see"


def test_no_matrix_of_tokens_by_tokens_is_made(windowed: Path) -> None:
    settings = _settings(windowed, target_length=8192)
    scorer = TransformersScorer(settings)
    factory = DocumentFactory(load_tokenizer(resolve_model(str(windowed))), load_corpus(None))
    documents = factory.build(DocumentRequest(target_length=8192, count=1, seed=0))
    largest = LargestTensor()
    with largest:
        scorer.score(Scaling.identity(16), documents)
    assert largest.elements < 8192 * 8192 / 16


def test_texts_are_read_and_gone_on_with_as_by_the_model_itself(windowed: Path) -> None:
    """`tests/helpers/generator_conformance.py` has the rest; here the window passes what the cache keeps."""
    prompt = list(_documents(windowed)[0].token_ids[:300])
    generator, plain = TransformersGenerator(_settings(windowed)), _plain(windowed)
    found = generator.generate(ServedRope(original_length=32, scaling=Scaling.identity(16)), prompt, 12)
    expected = plain.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0, len(prompt) :]
    assert list(found) == expected.tolist()[: len(found)]
    assert len(found) > 3


def test_a_family_whose_code_needs_masks_keeps_them(
    windowed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = MistralModel.forward

    def forward(self: MistralModel, **inputs: Any) -> Any:
        if self.config._attn_implementation == ATTENTION:
            raise TypeError("'NoneType' object is not subscriptable")
        return own(self, **inputs)

    monkeypatch.setattr(MistralModel, "forward", forward)
    with caplog.at_level(logging.INFO):
        scorer = TransformersScorer(_settings(windowed))
    assert (
        "MistralForCausalLM keeps its own attention, which could not be compared with the one in blocks (TypeError"
        in caplog.text
    )
    (document, *_) = _documents(windowed)
    (score,) = scorer.score(Scaling.identity(16), [document])
    assert score.nats == pytest.approx(_nats(_plain(windowed), document), abs=1e-4 * score.tokens)


def test_in_short_types_rounding_is_no_reason_to_keep_it(hand_made: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(hand_made, dtype=torch.bfloat16)
    choose_attention(model, target_length=TARGET)
    assert model.config._attn_implementation == ATTENTION


def test_a_loaded_model_gets_its_attention_back(windowed: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(windowed, dtype=torch.float32)
    before = model.config._attn_implementation
    with LoadedScorer(model, _settings(windowed)) as scorer:
        assert model.config._attn_implementation == ATTENTION
        (score, *_) = scorer.score(Scaling.identity(16), _documents(windowed))
    assert model.config._attn_implementation == before != ATTENTION
    assert score.nats == pytest.approx(_nats(model, _documents(windowed)[0]), abs=1e-4 * score.tokens)


def test_a_model_without_windows_and_a_target_within_them_keep_their_own(windowed: Path) -> None:
    for path, target_length in ((POCKET, TARGET), (windowed, WINDOW)):
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        before = model.config._attn_implementation
        with LoadedScorer(model, _settings(path, target_length)):
            assert model.config._attn_implementation == before != ATTENTION
