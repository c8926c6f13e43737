"""Documents through a loaded transformers model, forward and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol, cast

import numpy as np
import torch

from evaluation.documents.needle import NeedleDocument
from evaluation.documents.skipping import positions_of
from evaluation.scores.score import DocumentScore
from workers.errors import ScoringFailed
from workers.transformers_backend.recomputing import must_recompute, recomputed_layers
from workers.transformers_backend.rotary import RotaryTable

# Rows of a forward pass: enough tokens to keep the device busy, at most the documents that a pool sends at once. A CPU
# core gains about a tenth from short documents side by side and nothing from long ones.
TOKENS_PER_FORWARD = {"cpu": 1024, "cuda": 4096}
_MAX_ROWS = 4


class _CausalLMOutput(Protocol):
    logits: torch.Tensor


class _CausalLM(Protocol):
    """What a forward pass of a transformers model is here."""

    def __call__(
        self, *, input_ids: torch.Tensor, use_cache: bool, logits_to_keep: torch.Tensor, **placed: torch.Tensor
    ) -> _CausalLMOutput: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A loaded model: gone, all of it, when the scorer lets go of this."""

    model: torch.nn.Module
    rotary: RotaryTable
    device: torch.device


@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardGroup:
    """Documents, by index, that share a forward pass of `rows` rows; at most as many documents as rows."""

    indices: tuple[int, ...]
    rows: int


def forward_groups(documents: Sequence[NeedleDocument], *, tokens_per_forward: int) -> Iterator[ForwardGroup]:
    """Put documents together that have one length and one set of answer tokens: nothing is padded or masked.

    Skipped ones are passed with their positions, so they are no company for full ones. Rows follow from the length
    alone: as many as fit `tokens_per_forward`, from 1 to 4.
    """
    alike: dict[tuple[int, tuple[tuple[int, int], ...], bool], list[int]] = {}
    for index, document in enumerate(documents):
        alike.setdefault((len(document.token_ids), document.answer_spans, bool(document.jumps)), []).append(index)
    for (length, _, _), indices in alike.items():
        rows = min(max(tokens_per_forward // length, 1), _MAX_ROWS)
        remaining = iter(indices)
        while group := tuple(islice(remaining, rows)):
            yield ForwardGroup(indices=group, rows=rows)


def score_documents(opened: Opened, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
    """Scores in the order of `documents`, under the factors in the model.

    Raises:
        ScoringFailed: the model gave no finite number.
    """
    return _in_groups(_scores, opened, documents)


def differentiate_documents(opened: Opened, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
    """As :func:`score_documents`, with gradients; where torch keeps a graph (`enable_grad`).

    Raises:
        ScoringFailed: the model gave no finite number, or a derivative is not finite.
    """
    return _in_groups(_scores_with_gradients, opened, documents)


_GroupScorer = Callable[[Opened, Sequence[NeedleDocument], int], list[DocumentScore]]
"""(model, documents of one ForwardGroup, its rows) -> their scores."""


def _in_groups(score: _GroupScorer, opened: Opened, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
    scores: dict[int, DocumentScore] = {}
    for group in forward_groups(documents, tokens_per_forward=TOKENS_PER_FORWARD[opened.device.type]):
        found = score(opened, [documents[index] for index in group.indices], group.rows)
        scores.update(zip(group.indices, found, strict=True))
    return tuple(scores[index] for index in range(len(documents)))


def _scores(opened: Opened, documents: Sequence[NeedleDocument], rows: int) -> list[DocumentScore]:
    return [_document_score(answers) for answers in _answers(opened, documents, rows)]


def _scores_with_gradients(opened: Opened, documents: Sequence[NeedleDocument], rows: int) -> list[DocumentScore]:
    with opened.rotary.differentiable(rows=rows) as shifts, _memory(opened, rows * len(documents[0].token_ids)):
        answers = _answers(opened, documents, rows)
        # A row's nats depend on its own shifts alone: the gradient of the sum holds that of each.
        (gradients,) = torch.autograd.grad(torch.stack([one.nats for one in answers]).sum(), shifts)
    return [_with_gradient(_document_score(one), gradients[row]) for row, one in enumerate(answers)]


def _memory(opened: Opened, tokens: int) -> AbstractContextManager[None]:
    recompute = must_recompute(opened.model, tokens=tokens)
    return recomputed_layers(opened.model) if recompute else nullcontext()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answers:
    """What the model makes of one document's answers."""

    document: NeedleDocument
    nats: torch.Tensor  # (), float64
    exact: bool


def _answers(opened: Opened, documents: Sequence[NeedleDocument], rows: int) -> list[_Answers]:
    """By one forward pass over an array of (rows, tokens)."""
    # Rows without a document of their own repeat the last one: another shape may round differently.
    padded = [*documents, *[documents[-1]] * (rows - len(documents))]
    token_ids = torch.tensor([document.token_ids for document in padded], device=opened.device)
    answers = torch.tensor([p for span in documents[0].answer_spans for p in range(*span)], device=opened.device)
    # Logits at position p predict token p + 1.
    forward = cast("_CausalLM", opened.model)
    output = forward(input_ids=token_ids, use_cache=False, logits_to_keep=answers - 1, **_placed(padded, opened.device))
    targets = token_ids[:, answers]  # (rows, answer tokens); the logits have the vocabulary as a third axis
    return [_answers_of(document, output.logits[row], targets[row]) for row, document in enumerate(documents)]


def _placed(documents: Sequence[NeedleDocument], device: torch.device) -> dict[str, torch.Tensor]:
    """The positions of skipped documents, (rows, tokens); nothing for full ones, whose positions a model counts itself.

    The mask of ones is what keeps a document whole: without it transformers takes a jump for the start of another
    packed text, and no answer sees a needle before it.
    """
    if not documents[0].jumps:
        return {}
    rows = [positions_of(len(document.token_ids), document.jumps) for document in documents]
    positions = torch.from_numpy(np.stack(rows)).to(device)
    return {"position_ids": positions, "attention_mask": torch.ones_like(positions)}


def _answers_of(document: NeedleDocument, logits: torch.Tensor, targets: torch.Tensor) -> _Answers:
    """From logits (answer tokens, vocabulary) and the tokens that stand there (answer tokens,).

    The log-softmax is taken in float32 whatever the model's dtype, the sum over tokens in float64.
    """
    log_probabilities = torch.log_softmax(logits.float(), dim=-1).gather(-1, targets[:, None])[:, 0]
    exact = bool((logits.argmax(dim=-1) == targets).all())
    return _Answers(document=document, nats=-log_probabilities.double().sum(), exact=exact)


def _document_score(answers: _Answers) -> DocumentScore:
    nats, document = answers.nats.item(), answers.document
    if not math.isfinite(nats):
        raise ScoringFailed(f"a score must be a finite number of nats, but the model gave {nats} for {document.id!r}")
    return DocumentScore(document_id=document.id, nats=nats, tokens=document.answer_tokens, exact=answers.exact)


def _with_gradient(score: DocumentScore, gradient: torch.Tensor) -> DocumentScore:
    if not bool(gradient.isfinite().all()):
        raise ScoringFailed(f"derivatives must be finite numbers, but the model gave others for {score.document_id!r}")
    return replace(score, gradient=tuple(gradient.tolist()))
