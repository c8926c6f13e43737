"""Which attention a model scores and reads with."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from evaluation.architecture.attention import ATTENTION, agrees, asked_windows, own_attention, same_windows
from evaluation.architecture.layers import Layers

_PROBE_TOKENS = 4


def choose_attention(model: nn.Module, layers: Layers | None, *, target_length: int) -> None:
    """Let a model attend by :mod:`evaluation.architecture.attention` where its own attention has a matrix of T x T
    numbers, and this one gives what the model's code says, its "eager" attention.

    For `layers` with a window of fewer than T tokens transformers makes a mask of T x T, which torch makes one of
    floats in each layer: 16 and 64 GiB at 131,072 tokens in float32. For sinks and caps of logits there is the model's
    code alone, with T x T weights for each head. Other models keep their own.
    """
    if layers is None or not isinstance(model, PreTrainedModel) or not model._can_set_attn_implementation():
        return
    own = own_attention(model)
    if own != "eager" and not any(layer.window is not None and layer.window < target_length for layer in layers.all):
        return
    before = KeptAttention(model)
    model.set_attn_implementation("eager")
    expected = _logits(model)
    model.set_attn_implementation(ATTENTION)
    with asked_windows() as windows:
        found = _logits(model)
    if not (same_windows(layers, windows) and agrees(found, expected)):
        before.restore()
        if own == "eager":
            model.set_attn_implementation(own)


def _logits(model: nn.Module) -> torch.Tensor:
    device = next(model.parameters()).device
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=torch.arange(_PROBE_TOKENS, device=device)[None], use_cache=False).logits
    return logits


class KeptAttention:
    """The attention of a model and its parts as it was."""

    def __init__(self, model: nn.Module) -> None:
        parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
        self._kept: list[tuple[Any, str | None]] = [(part.config, part.config._attn_implementation) for part in parts]

    def restore(self) -> None:
        """Put it back; a model's own comes before those of its parts, which it changes too."""
        for config, implementation in self._kept:
            config._attn_implementation = implementation
