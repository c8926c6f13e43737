"""The scorer of a model that the caller's program has loaded, and gets back as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, cast

import torch
from torch import nn

from evaluation.documents.needle import NeedleDocument
from evaluation.models.source import config_sha256
from ropewalk.errors import FactorsDoNotFit
from ropewalk.models.applying import applied_to
from ropewalk.models.rotary import KeptPart, rescaled_parts
from ropewalk.rope.scaling import Scaling
from workers.base import ScorerSettings
from workers.errors import ScorerUnavailable
from workers.model import find_model
from workers.transformers_backend.attention import KeptAttention, choose_attention
from workers.transformers_backend.passes import Opened
from workers.transformers_backend.rotary import RotaryTable
from workers.transformers_backend.scorer import TransformersScorer, check_keeps_logits, scorer_info

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LoadedScorer(TransformersScorer):
    """Scores with `model` on its own device and in its own dtype, without a copy of its weights. `settings.model` is a
    directory with its config. `close` makes the model what it was; until then nobody else may use it.

    Raises:
        FactorsDoNotFit, ScorerUnavailable: as :func:`check_loaded`; or its rotary module is not one that can be written
            to. The model is as it was.
    """

    def __init__(self, model: PreTrainedModel, settings: ScorerSettings) -> None:
        check_loaded(model)
        source, device = find_model(settings), next(model.parameters()).device
        self._rows = int(cast("nn.Embedding", model.get_input_embeddings()).weight.shape[0])
        self._target_length, self._rope = settings.target_length, source.rope
        self._info = scorer_info(model.dtype, device, model_sha256="", config_sha256=config_sha256(source))
        self._before: _Before | None = _Before(model)
        try:
            rotary = RotaryTable(model.train(False).requires_grad_(False), source.rope)
            choose_attention(model, target_length=settings.target_length)
        except BaseException:
            self._before.restore()
            raise
        self._opened: Opened | None = Opened(model=model, rotary=rotary, device=device)

    def close(self) -> None:
        """Let go of the model; the first time, make it what it was."""
        super().close()
        if self._before is not None:
            self._before.restore()
            self._before = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ready(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> Opened:
        """With another model's tokenizer the model would be asked for rows that its table of tokens does not have."""
        highest = max((max(document.token_ids) for document in documents), default=0)
        if highest >= self._rows:
            raise ScorerUnavailable(
                f"the tokenizer must be the model's own, which has {self._rows} tokens, but got token {highest}"
            )
        return super()._ready(scaling, documents)


class _Before:
    """What scoring changes in a model, as it was."""

    def __init__(self, model: nn.Module) -> None:
        self._attention = KeptAttention(model)
        self._parts = [KeptPart.of(part) for part in rescaled_parts(model)]
        self._training = [(module, module.training) for module in model.modules()]
        self._wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]

    def restore(self) -> None:
        """Put all of it back."""
        self._attention.restore()
        for part in self._parts:
            part.restore()
        for module, training in self._training:
            module.training = training
        for parameter, wanted in self._wanted:
            parameter.requires_grad_(wanted)


def check_loaded(model: PreTrainedModel) -> None:
    """Return when the model can be scored where it is.

    Raises:
        FactorsDoNotFit: it has factors.
        ScorerUnavailable: its weights are not in the memory of one device, or its class cannot be scored.
    """
    if (there := applied_to(model)) is not None:
        raise FactorsDoNotFit(f"the model must be without factors, but has some: call remove() on them first: {there}")
    devices = sorted({str(tensor.device) for tensor in (*model.parameters(), *model.buffers())})
    if len(devices) != 1 or torch.device(devices[0]).type == "meta":
        raise ScorerUnavailable(
            f"the weights of a loaded model must all be in the memory of one device, but are on {' and '.join(devices)}"
        )
    check_keeps_logits(model)
