"""The scorer that runs anywhere torch does: a transformers model, loaded once."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, cast

import torch
import transformers

from evaluation.model_source import ModelSource, model_sha256
from evaluation.needle import NeedleDocument
from evaluation.score import DocumentScore
from search_space.rescale_factors import RescaleFactors
from workers.base import ScorerInfo, ScorerSettings
from workers.checks import check_candidate, check_documents
from workers.errors import ScorerClosed, ScorerUnavailable, ScoringFailed
from workers.model_files import find_model
from workers.rotary import RotaryTable

# Rows of a forward pass: enough tokens to keep the device busy, at most the documents that a pool sends at once. A CPU
# core gains about a tenth from short documents side by side and nothing from long ones.
_TOKENS_PER_FORWARD = {"cpu": 1024, "cuda": 4096}
_MAX_ROWS = 4


class TransformersScorer:
    """Implements :class:`workers.base.Scorer`.

    Loads safetensors from the disk, runs no code from the model's directory, and asks no server. The forward pass keeps
    no KV cache and computes logits for answer tokens only: no (tokens, vocabulary) array exists.

    A score depends on the candidate and the document alone, to the last bit: the shape of a forward pass follows from
    the document's length, whoever else is in it. So a search gives the same trials however its tasks were put together.

    Raises:
        ScorerUnavailable: the files cannot be loaded, or the model's rotary module is not one this scorer can write to.
        EvaluationError, SearchSpaceError: from resolving the model.
    """

    def __init__(self, settings: ScorerSettings) -> None:
        if settings.tensor_parallel != 1:
            raise ScorerUnavailable(
                "tensor_parallel must be 1 with backend=transformers, "
                f"but got tensor_parallel={settings.tensor_parallel}"
            )
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = _dtype(settings.dtype, device)
        source = find_model(settings.model, original_length=settings.original_length)
        model = _load(source, dtype=dtype, device=device)
        self._target_length = settings.target_length
        self._rope = source.rope
        self._opened: _Opened | None = _Opened(
            forward=cast("_CausalLM", model), rotary=RotaryTable(model, source.rope), device=device
        )
        self._info = ScorerInfo(
            backend="transformers",
            dtype=str(dtype).removeprefix("torch."),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            model_sha256=model_sha256(source),
            version=f"transformers {transformers.__version__}, torch {torch.__version__}",
        )

    @property
    def info(self) -> ScorerInfo:
        """What produces the scores."""
        return self._info

    def score(
        self, *, factors: RescaleFactors, attention_factor: float, documents: Sequence[NeedleDocument]
    ) -> tuple[DocumentScore, ...]:
        """See :meth:`workers.base.Scorer.score`."""
        if self._opened is None:
            raise ScorerClosed("a scorer must be open to score, but close() was called")
        check_candidate(self._rope, factors=factors, attention_factor=attention_factor)
        check_documents(documents, target_length=self._target_length)
        scores: dict[int, DocumentScore] = {}
        with torch.inference_mode():
            self._opened.rotary.write(factors=factors, attention_factor=attention_factor)
            for group in forward_groups(documents, tokens_per_forward=_TOKENS_PER_FORWARD[self._opened.device.type]):
                found = _score_group(self._opened, [documents[index] for index in group.indices], rows=group.rows)
                scores.update(zip(group.indices, found, strict=True))
        return tuple(scores[index] for index in range(len(documents)))

    def close(self) -> None:
        """Drop the model, and give cached device memory back."""
        self._opened = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class _CausalLMOutput(Protocol):
    logits: torch.Tensor


class _CausalLM(Protocol):
    """What a forward pass of a transformers model is here."""

    def __call__(
        self, *, input_ids: torch.Tensor, use_cache: bool, logits_to_keep: torch.Tensor
    ) -> _CausalLMOutput: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opened:
    """A loaded model: gone, all of it, when the scorer lets go of this."""

    forward: _CausalLM
    rotary: RotaryTable
    device: torch.device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def _load(source: ModelSource, *, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
    try:
        with _without_progress_bar():
            model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                str(source.path),
                dtype=dtype,
                attn_implementation="sdpa",
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
    except Exception as error:  # transformers raises whatever its many readers raise
        raise ScorerUnavailable(
            "a model must load with AutoModelForCausalLM from safetensors, "
            f"but {source.path} gave {type(error).__name__}: {error}"
        ) from error
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        raise ScorerUnavailable(
            f"a model must compute logits at chosen positions (logits_to_keep), but {type(model).__name__} does not"
        )
    return cast("torch.nn.Module", model.eval().requires_grad_(False).to(device))


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """transformers draws a bar on stderr for every model it loads, in every worker."""
    settings: Any = transformers.utils.logging
    was_on = settings.is_progress_bar_enabled()
    settings.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            settings.enable_progress_bar()


@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardGroup:
    """Documents, by index, that share a forward pass of `rows` rows; at most as many documents as rows."""

    indices: tuple[int, ...]
    rows: int


def forward_groups(documents: Sequence[NeedleDocument], *, tokens_per_forward: int) -> Iterator[ForwardGroup]:
    """Put documents together that have one length and one set of answer positions: nothing is padded or masked.

    Rows follow from the length alone: as many as fit `tokens_per_forward`, from 1 to 4.
    """
    alike: dict[tuple[int, tuple[tuple[int, int], ...]], list[int]] = {}
    for index, document in enumerate(documents):
        alike.setdefault((len(document.token_ids), document.answer_spans), []).append(index)
    for (length, _), indices in alike.items():
        rows = min(max(tokens_per_forward // length, 1), _MAX_ROWS)
        remaining = iter(indices)
        while group := tuple(islice(remaining, rows)):
            yield ForwardGroup(indices=group, rows=rows)


def _score_group(opened: _Opened, documents: Sequence[NeedleDocument], *, rows: int) -> list[DocumentScore]:
    """Scores of one :class:`ForwardGroup`, by one forward pass over an array of (rows, tokens)."""
    # Rows without a document of their own repeat the last one: another shape may round differently.
    padded = [*documents, *[documents[-1]] * (rows - len(documents))]
    token_ids = torch.tensor([document.token_ids for document in padded], device=opened.device)
    answers = torch.tensor([p for span in documents[0].answer_spans for p in range(*span)], device=opened.device)
    # Logits at position p predict token p + 1.
    output = opened.forward(input_ids=token_ids, use_cache=False, logits_to_keep=answers - 1)
    targets = token_ids[:, answers]  # (rows, answer tokens); the logits have the vocabulary as a third axis
    return [_document_score(document, output.logits[row], targets[row]) for row, document in enumerate(documents)]


def _document_score(document: NeedleDocument, logits: torch.Tensor, targets: torch.Tensor) -> DocumentScore:
    """From logits (answer tokens, vocabulary) and the tokens that stand there (answer tokens,).

    The log-softmax is taken in float32 whatever the model's dtype, the sum over tokens in float64.
    """
    log_probabilities = torch.log_softmax(logits.float(), dim=-1).gather(-1, targets[:, None])[:, 0]
    nats = -float(log_probabilities.double().sum())
    if not math.isfinite(nats):
        raise ScoringFailed(f"a score must be a finite number of nats, but the model gave {nats} for {document.id!r}")
    exact = bool((logits.argmax(dim=-1) == targets).all())
    return DocumentScore(document_id=document.id, nats=nats, tokens=len(targets), exact=exact)
