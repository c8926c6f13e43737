"""Backward passes that keep little: layers are run again on the way back instead of kept on the way there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

# Hidden numbers (tokens * units * layers) up to which everything is kept: in float32 about 2 GB. Running layers again
# costs a pass, a gradient then 4 to 5 of them instead of 3.
_MOST_KEPT = 2**24


def must_recompute(model: torch.nn.Module, *, tokens: int) -> bool:
    """Whether a graph of `tokens`, over all rows, is too much to keep. Either way gives the same numbers."""
    units = cast("_HasConfig", model).config.hidden_size
    return bool(tokens * units * len(_layers(model)) > _MOST_KEPT)


class _HasConfig(Protocol):
    config: Any


@contextmanager
def recomputed_layers(model: torch.nn.Module) -> Iterator[None]:
    """Inside, `model` keeps the hidden states between its layers for a backward pass, and nothing within them.

    transformers does this for layers that are in training mode, and reads each layer's own flag: what is within a layer
    (dropout) stays as it was. `gradient_checkpointing_enable` would leave hooks on the embeddings behind. A model
    without such layers keeps everything, and gives the same numbers.
    """
    layers = _layers(model)
    before = [{name: vars(layer)[name] for name in _RECOMPUTED if name in vars(layer)} for layer in layers]
    for layer in layers:
        vars(layer).update(_RECOMPUTED)
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            for name in _RECOMPUTED:
                del vars(layer)[name]
            vars(layer).update(own)


def _layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


# Nothing in a scorer is random: the state of the generators need not be put back for the second run.
_RECOMPUTED: dict[str, Any] = {
    "gradient_checkpointing": True,
    "training": True,
    "_gradient_checkpointing_func": partial(checkpoint, use_reentrant=False, preserve_rng_state=False),
}
