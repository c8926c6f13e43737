"""The scorer that runs anywhere torch does: a transformers model, loaded once."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, cast

import torch
import transformers

from evaluation.architecture.config import load_config
from evaluation.architecture.skeleton import auto_class
from evaluation.documents.needle import NeedleDocument
from evaluation.models.loading import progress_told
from evaluation.models.source import ModelSource, config_sha256, model_sha256, read_config
from evaluation.scores.score import DocumentScore
from ropewalk.rope.scaling import Scaling
from workers.arithmetic import arithmetic, choose_device, choose_dtype, device_name
from workers.base import ScorerInfo, ScorerSettings
from workers.checks import check_documents
from workers.errors import ScorerClosed, ScorerUnavailable
from workers.model import find_model
from workers.transformers_backend.attention import choose_attention
from workers.transformers_backend.passes import Opened, differentiate_documents, score_documents
from workers.transformers_backend.rotary import RotaryTable

_REVISION = (
    2  # of this file, attention.py, passes.py and rotary.py: raise it with every change that moves a bit of any score
)


class TransformersScorer:
    """Implements :class:`workers.base.DifferentiableScorer`.

    Loads safetensors from the disk, runs no code from the model's directory, and asks no server. The forward pass keeps
    no KV cache and computes logits for answer tokens only: no (tokens, vocabulary) array exists.

    A score depends on the candidate and the document alone, to the last bit: the shape of a forward pass follows from
    the document's length, whoever else is in it. So a search gives the same trials however its tasks were put together.

    Raises:
        ScorerUnavailable: the files cannot be loaded, or the model's rotary module is not one this scorer can write to.
        EvaluationError, RopewalkError: from resolving the model.
    """

    def __init__(self, settings: ScorerSettings) -> None:
        if settings.tensor_parallel != 1:
            raise ScorerUnavailable(
                "tensor_parallel must be 1 with backend=transformers, "
                f"but got tensor_parallel={settings.tensor_parallel}"
            )
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        device = choose_device()
        dtype = choose_dtype(settings.dtype, device)
        source = find_model(settings)
        model = load_model(source, dtype=dtype, device=device, target_length=settings.target_length)
        self._target_length = settings.target_length
        self._rope = source.rope
        self._opened: Opened | None = Opened(model=model, rotary=RotaryTable(model, source.rope), device=device)
        self._info = scorer_info(dtype, device, model_sha256=model_sha256(source), config_sha256=config_sha256(source))

    @property
    def info(self) -> ScorerInfo:
        """What produces the scores."""
        return self._info

    def score(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
        """See :meth:`workers.base.Scorer.score`."""
        opened = self._ready(scaling, documents)
        with torch.inference_mode():
            return score_documents(opened, documents)

    def score_with_gradients(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
        """See :meth:`workers.base.DifferentiableScorer.score_with_gradients`.

        Memory: a graph too large to keep keeps the hidden states between layers, and one layer's activations at a time
        (see :mod:`workers.transformers_backend.recomputing`): for h hidden units, tokens * h * (layers +
        about 30) numbers a row. A plain pass holds one layer's forward activations only, so lengths that score fine may
        not differentiate.
        """
        opened = self._ready(scaling, documents)
        with torch.enable_grad():
            return differentiate_documents(opened, documents)

    def _ready(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> Opened:
        """The model with the candidate in it, once everything is checked."""
        if self._opened is None:
            raise ScorerClosed("a scorer must be open to score, but close() was called")
        scaling.check_fits(self._rope.num_pairs)
        check_documents(documents, target_length=self._target_length)
        with torch.no_grad():
            self._opened.rotary.write(scaling)
        return self._opened

    def close(self) -> None:
        """Drop the model, and give cached device memory back."""
        self._opened = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def scorer_info(dtype: torch.dtype, device: torch.device, *, model_sha256: str, config_sha256: str) -> ScorerInfo:
    """What produces the scores of a model with these files, in this process."""
    return ScorerInfo(
        backend="transformers",
        dtype=str(dtype).removeprefix("torch."),
        device=device_name(device),
        arithmetic=arithmetic(device),
        model_sha256=model_sha256,
        config_sha256=config_sha256,
        version=f"scorer {_REVISION}, transformers {transformers.__version__}, torch {torch.__version__}",
    )


def load_model(source: ModelSource, *, dtype: torch.dtype, device: torch.device, target_length: int) -> torch.nn.Module:
    """A language model from safetensors on the disk, for texts of at most `target_length`. Raises ScorerUnavailable."""
    try:
        config = load_config(read_config(source.path))
        with progress_told():
            # Without an implementation of attention it takes the fastest that the family has.
            model: Any = auto_class(config).from_pretrained(
                str(source.path),
                config=config,
                dtype=dtype,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
    except Exception as error:  # transformers raises whatever its many readers raise
        raise ScorerUnavailable(
            f"a model must load from safetensors, but {source.path} gave {type(error).__name__}: {error}"
        ) from error
    check_keeps_logits(model)
    model = model.eval().requires_grad_(False).to(device)
    choose_attention(model, target_length=target_length)
    return cast("torch.nn.Module", model)


def check_keeps_logits(model: torch.nn.Module) -> None:
    """Raise ScorerUnavailable unless the model computes logits at chosen positions alone."""
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        raise ScorerUnavailable(
            f"a model must compute logits at chosen positions (logits_to_keep), but {type(model).__name__} does not"
        )
