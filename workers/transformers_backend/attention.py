"""Which attention a model scores and reads with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from evaluation.architecture.attention import ATTENTION, agrees, asked_windows, own_attention, same_windows
from evaluation.architecture.probing import layers_of

_PROBE_TOKENS = 16
_SHARE = 0.25  # of these, that must agree: what is wrong in attention is so for every token

logger = logging.getLogger(__name__)


def choose_attention(model: nn.Module, *, target_length: int) -> None:
    """Let a model attend by :mod:`evaluation.architecture.attention` where its own attention has a matrix of T x T
    numbers, and this one gives what the model's code says, its "eager" attention.

    For layers with a window of fewer than T tokens transformers makes a mask of T x T, which torch makes one of floats
    in each layer: 16 and 64 GiB at 131,072 tokens in float32. For sinks and caps of logits there is the model's code
    alone, with T x T weights for each head. Other models keep their own.
    """
    if not isinstance(model, PreTrainedModel) or not model._can_set_attn_implementation():
        return
    before, own = KeptAttention(model), own_attention(model)
    try:
        layers = layers_of(model.config)
        windows = [layer.window for layer in layers.all if layer.window is not None]
        if own != "eager" and not any(window < target_length for window in windows):
            return
        model.set_attn_implementation("eager")
        expected = _logits(model)
        model.set_attn_implementation(ATTENTION)
        with asked_windows() as asked:
            found = _logits(model)
        if same_windows(layers, asked) and agrees(found, expected, share=_SHARE):
            return
        reason = "gives something else than the one in blocks"
    except Exception as error:  # whatever a family's code makes of an attention without masks
        reason = f"could not be compared with the one in blocks ({type(error).__name__}: {error})"
    before.restore()
    if own == "eager":
        model.set_attn_implementation(own)
    logger.info("%s keeps its own attention, which %s: long texts take T x T numbers", type(model).__name__, reason)


def _logits(model: nn.Module) -> torch.Tensor:
    device = next(model.parameters()).device
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=torch.arange(_PROBE_TOKENS, device=device)[None], use_cache=False).logits
    return logits


class KeptAttention:
    """The attention of a model and its parts as it was."""

    def __init__(self, model: nn.Module) -> None:
        parts = [part.config for part in model.modules() if isinstance(part, PreTrainedModel)]
        configs = {id(config): config for part in parts for config in _with_parts(part)}
        self._kept: list[tuple[Any, str | None]] = [(one, one._attn_implementation) for one in configs.values()]

    def restore(self) -> None:
        """Put it back; a model's own comes before those of its parts, which it changes too."""
        for config, implementation in self._kept:
            config._attn_implementation = implementation


def _with_parts(config: Any) -> Iterator[Any]:
    yield config
    for name in getattr(config, "sub_configs", ()):
        if (part := getattr(config, name, None)) is not None:
            yield from _with_parts(part)
