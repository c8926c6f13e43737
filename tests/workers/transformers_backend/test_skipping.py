"""Scores of documents whose positions jump, against the model itself with a mask and positions of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from evaluation.documents.corpus import load_corpus
from evaluation.documents.factory import DocumentFactory, DocumentRequest
from evaluation.documents.needle import NeedleDocument
from evaluation.documents.skipping import Skipping, positions_of
from evaluation.models.source import load_tokenizer, resolve_model
from ropewalk.rope.scaling import Scaling
from tests.helpers.paths import POCKET
from workers.backends import BACKENDS
from workers.base import ScorerSettings
from workers.errors import DocumentTooLong, ScorerUnavailable
from workers.factory import BackendChoice, check_places_positions
from workers.transformers_backend.scorer import TransformersScorer

TOKENS, TARGET = 200, 240  # within the original length of 256: the plain model answers over any gap


@pytest.fixture(scope="module")
def scorer() -> TransformersScorer:
    return TransformersScorer(
        ScorerSettings(model="pocket", target_length=TARGET, original_length=TARGET, dtype="float32", threads=1)
    )


@pytest.fixture(scope="module")
def documents() -> tuple[NeedleDocument, ...]:
    factory = DocumentFactory(load_tokenizer(resolve_model("pocket")), load_corpus(None))
    skipping = Skipping(tokens=TOKENS, gaps=2)
    return factory.build(DocumentRequest(target_length=TARGET, count=6, seed=0, skipping=skipping))


def _plain(document: NeedleDocument) -> float:
    """Nats by the model in plain transformers: every earlier token is seen, whatever the positions say."""
    model: Any = AutoModelForCausalLM.from_pretrained(POCKET, dtype=torch.float32, attn_implementation="eager")
    length = len(document.token_ids)
    mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)[None, None]
    ids = torch.tensor([document.token_ids])
    positions = torch.from_numpy(positions_of(length, document.jumps))[None]
    with torch.no_grad():
        logits = model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False).logits[0]
    log_probabilities = torch.log_softmax(logits.double(), dim=-1)
    return -sum(
        log_probabilities[at - 1, document.token_ids[at]].item()
        for start, end in document.answer_spans
        for at in range(start, end)
    )


def test_a_score_is_that_of_the_model_at_these_positions(
    scorer: TransformersScorer, documents: tuple[NeedleDocument, ...]
) -> None:
    found = scorer.score(Scaling.identity(16), documents)
    for document, score in zip(documents, found, strict=True):
        assert score.nats == pytest.approx(_plain(document), abs=1e-4 * score.tokens)


def test_an_answer_depends_on_the_needle_before_a_gap(
    scorer: TransformersScorer, documents: tuple[NeedleDocument, ...]
) -> None:
    """Where a jump was taken for the start of another text, the answer would be a guess: ln 10 nats a digit."""
    scores = scorer.score(Scaling.identity(16), documents)
    assert sum(score.nats for score in scores) / sum(score.tokens for score in scores) < 0.5
    far = replace(documents[0], jumps=((documents[0].answer_spans[0][0] - 30, 40),))
    text = scorer.score(Scaling.identity(16), [far])[0].nats
    other = list(far.token_ids)
    start, end = far.answer_spans[0]
    value = other[start:end]
    needle = next(i for i in range(start) if other[i : i + len(value)] == value)
    other[needle : needle + len(value)] = [*value[1:], value[0]]
    with_other = object.__new__(NeedleDocument)
    for name in NeedleDocument.__dataclass_fields__:
        object.__setattr__(with_other, name, getattr(far, name))
    object.__setattr__(with_other, "token_ids", tuple(other))
    assert scorer.score(Scaling.identity(16), [with_other])[0].nats > text + 1.0


def test_companions_change_no_bit(scorer: TransformersScorer, documents: tuple[NeedleDocument, ...]) -> None:
    full = replace(documents[0], jumps=())
    together = scorer.score(Scaling.identity(16), [*documents, full])
    alone = [scorer.score(Scaling.identity(16), [document])[0] for document in (*documents, full)]
    assert list(together) == alone
    assert together[0].nats != together[-1].nats


def test_a_document_that_reaches_too_far_is_refused(
    scorer: TransformersScorer, documents: tuple[NeedleDocument, ...]
) -> None:
    with pytest.raises(DocumentTooLong, match=f"at most target_length={TARGET} tokens, but got {TARGET + 10}"):
        scorer.score(Scaling.identity(16), [replace(documents[0], jumps=((9, TARGET - TOKENS + 10),))])


def test_a_backend_that_cannot_place_positions_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_places_positions("transformers")
    other = replace(BACKENDS["vllm"], places_positions=False)
    monkeypatch.setattr(BackendChoice, "row", property(lambda choice: other))
    with pytest.raises(ScorerUnavailable, match=r"need backend=transformers or .*, but got backend=vllm"):
        check_places_positions("vllm")
