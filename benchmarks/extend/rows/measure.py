"""What a trained checkpoint does, as transformers loads it: needles by length and depth, short text, RULER.

Batches hold documents of one length, so that the checkpoint's own switch between short and long factors decides for
each of them as it would for a document alone.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoModelForCausalLM

from benchmarks.extend.rows.arms import ORIGINAL_LENGTH
from evaluation.documents.corpus import load_corpus
from evaluation.documents.factory import DocumentFactory, DocumentRequest
from evaluation.documents.needle import NeedleDocument
from evaluation.documents.windows import TextWindow, text_windows
from evaluation.errors import InvalidDocumentRequest
from evaluation.models.source import load_tokenizer, resolve_model
from evaluation.models.tokenizer import Tokenizer
from evaluation.ruler.factory import RulerFactory
from evaluation.ruler.score import match_score
from evaluation.ruler.task import RulerPrompt, RulerRequest
from evaluation.ruler.tasks import TASKS

HELD_OUT_SEED = 10_000  # trainings and searches draw with their own seeds
_BATCH_TOKENS = {"cuda": 2**17, "cpu": 2**12}
_DIGITS = 5
_T = TypeVar("_T", NeedleDocument, TextWindow)


@dataclass(frozen=True, kw_only=True, slots=True)
class Needles:
    """Held-out documents of one length, in their order. depths: of the needle, 0 to 1; nats: of all answer tokens."""

    length: int
    answer_tokens: int
    depths: tuple[float, ...]
    nats: tuple[float, ...]
    exact: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """Windows of plain text of one length: nats of the scored tokens of each."""

    length: int
    scored: int
    nats: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ruler:
    """One task at one length: percent."""

    task: str
    length: int
    prompts: int
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """What every checkpoint is measured on."""

    documents: tuple[tuple[NeedleDocument, ...], ...]
    windows: tuple[tuple[TextWindow, ...], ...]


def lengths_of(target_length: int) -> tuple[int, ...]:
    """L, 2L, 4L and so on to L', and half-way between the last two, where a hole would show."""
    doubled = itertools.takewhile(lambda n: n <= target_length, (ORIGINAL_LENGTH << k for k in itertools.count()))
    return tuple(sorted({*doubled, target_length * 3 // 4}))


@functools.cache
def held_out(model: str, target_length: int, documents: int, windows: int) -> HeldOut:
    """Documents of every length, and text of L and L' tokens; made once in each process."""
    tokenizer, corpus = _tokenizer(model), load_corpus(None)
    factory = DocumentFactory(tokenizer, corpus)
    requests = (
        DocumentRequest(target_length=length, count=documents, seed=HELD_OUT_SEED)
        for length in lengths_of(target_length)
    )
    texts = text_windows(tokenizer, corpus, lengths=(ORIGINAL_LENGTH, target_length), count=windows, seed=HELD_OUT_SEED)
    return HeldOut(documents=tuple(map(factory.build, requests)), windows=tuple(texts.values()))


def _tokenizer(model: str) -> Tokenizer:
    return load_tokenizer(resolve_model(model, original_length=ORIGINAL_LENGTH))


class Checkpoint:
    """One that is loaded."""

    def __init__(self, directory: Path, device: str) -> None:
        model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, use_safetensors=True)
        self._model, self._device = model.to(device).eval(), device

    def needles(self, documents: Sequence[NeedleDocument]) -> Needles:
        """Documents of one length with one needle each."""
        nats: list[float] = []
        exact: list[bool] = []
        for batch in self._batches(documents):
            answers = [torch.arange(*document.answer_spans[0]) for document in batch]
            losses, hits = self._read([document.token_ids for document in batch], torch.stack(answers))
            nats += losses.sum(dim=1).tolist()
            exact += hits.all(dim=1).tolist()
        return Needles(
            length=documents[0].length,
            answer_tokens=documents[0].answer_tokens,
            depths=tuple(round(document.depth, 3) for document in documents),
            nats=tuple(round(value, _DIGITS) for value in nats),
            exact=tuple(exact),
        )

    def text(self, windows: Sequence[TextWindow]) -> Text:
        """Windows of one length."""
        length, scored = len(windows[0].token_ids), windows[0].scored
        nats: list[float] = []
        for batch in self._batches(windows):
            asked = torch.arange(length - scored, length).expand(len(batch), -1)
            nats += self._read([window.token_ids for window in batch], asked)[0].sum(dim=1).tolist()
        return Text(length=length, scored=scored, nats=tuple(round(value, _DIGITS) for value in nats))

    def _batches(self, documents: Sequence[_T]) -> Iterator[Sequence[_T]]:
        size = max(1, _BATCH_TOKENS[self._device] // len(documents[0].token_ids))
        return (documents[start : start + size] for start in range(0, len(documents), size))

    @torch.inference_mode()
    def _read(self, token_ids: Sequence[Sequence[int]], asked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Nats of the tokens at `asked`, (B, N), each from all before it, and whether it was the first choice."""
        ids, asked = torch.tensor(token_ids, device=self._device), asked.to(self._device)
        rows = torch.arange(len(ids), device=self._device)[:, None]
        states = self._model.model(input_ids=ids, use_cache=False).last_hidden_state[rows, asked - 1]
        logits, targets = self._model.lm_head(states).float(), ids[rows, asked]
        nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        return nats.cpu(), (logits.argmax(dim=-1) == targets).cpu()

    @torch.inference_mode()
    def ruler(self, prompts: Sequence[RulerPrompt], tokenizer: Tokenizer) -> Ruler:
        """Prompts of one task and length, answered greedily, all at once."""
        longest = max(len(prompt.token_ids) for prompt in prompts)
        padding = [longest - len(prompt.token_ids) for prompt in prompts]
        padded = [(*[0] * left, *prompt.token_ids) for left, prompt in zip(padding, prompts, strict=True)]
        mask = [[0] * left + [1] * (longest - left) for left in padding]
        written = self._model.generate(
            torch.tensor(padded, device=self._device),
            attention_mask=torch.tensor(mask, device=self._device),
            max_new_tokens=prompts[0].max_new_tokens,
            do_sample=False,
            pad_token_id=0,
        )[:, longest:]
        scores = [
            match_score(tokenizer.decode(ids), prompt.answers, prompt.match)
            for ids, prompt in zip(written.tolist(), prompts, strict=True)
        ]
        return Ruler(
            task=prompts[0].task, length=prompts[0].length, prompts=len(prompts), score=sum(scores) / len(scores)
        )


@functools.cache
def ruler_prompts(model: str, lengths: tuple[int, ...], count: int) -> tuple[tuple[RulerPrompt, ...], ...]:
    """Of every task whose data is at hand, at every length that it fits."""
    factory = RulerFactory(_tokenizer(model), load_corpus(None))
    found = []
    for length, task in itertools.product(lengths, TASKS.values()):
        if task.file is None:
            with contextlib.suppress(InvalidDocumentRequest):  # a task whose least prompt is longer
                found.append(
                    factory.build(RulerRequest(task=task.name, length=length, count=count, seed=HELD_OUT_SEED))
                )
    return tuple(found)


def answer_ruler(checkpoint: Checkpoint, model: str, lengths: tuple[int, ...], count: int) -> tuple[Ruler, ...]:
    """Every task at every length."""
    tokenizer = _tokenizer(model)
    return tuple(checkpoint.ruler(prompts, tokenizer) for prompts in ruler_prompts(model, lengths, count))
