"""Models whose layers see windows are scored and read without masks, to what they give with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from evaluation.architecture.attention import ATTENTION
from evaluation.documents.corpus import load_corpus
from evaluation.documents.factory import DocumentFactory, DocumentRequest
from evaluation.documents.needle import NeedleDocument
from evaluation.documents.skipping import Skipping, positions_of
from evaluation.models.source import load_tokenizer, resolve_model
from evaluation.scores.served_rope import ServedRope
from ropewalk.rope.scaling import Scaling
from tests.helpers.largest_tensor import LargestTensor
from tests.helpers.paths import POCKET
from workers.base import ScorerSettings
from workers.transformers_backend.generator import TransformersGenerator
from workers.transformers_backend.loaded import LoadedScorer
from workers.transformers_backend.scorer import TransformersScorer

WINDOW, TARGET = 48, 512


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pocket model's weights as those of a Mistral, whose layers see the last 48 tokens."""
    path = tmp_path_factory.mktemp("windowed") / "model"
    shutil.copytree(POCKET, path)
    config = json.loads((path / "config.json").read_text())
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": WINDOW}
    (path / "config.json").write_text(json.dumps(config))
    return path


def _settings(path: Path, target_length: int = TARGET) -> ScorerSettings:
    return ScorerSettings(model=str(path), target_length=target_length, original_length=32, dtype="float32", threads=1)


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
