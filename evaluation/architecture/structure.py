"""What a model is beside its positions: weights, what a cache keeps for each token, and where it normalises."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from evaluation.architecture.layers import Layers
from evaluation.architecture.probing import attention_of
from evaluation.architecture.skeleton import decoder_layers
from ropewalk.models.rotary import text_config

Norms = Literal["before", "after", "around"]
"""Where a layer normalises: what goes into attention and MLP, what comes out, or both."""

_QK_NORM = re.compile(r"(q|k|qk|query|key)_(layer)?norm")
_NORM_BEFORE = re.compile(r"(input|pre)_.*norm|(attn|mlp|temporal_pre)_norm|norm|ln_\d|norm_attn_norm")
_NORM_AFTER = re.compile(r"post_(feedforward|self_attn|mlp)_(layer)?norm|post_norm\d?")
_OUTPUTS = ("o_proj", "dense", "out_proj", "Wo")
_FUSED = ("qkv_proj", "query_key_value", "Wqkv", "c_attn")
_LATENT = ("kv_a_proj_with_mqa", "kv_proj")


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """Read from the modules of a model without weights."""

    parameters: int
    """Of all its parts, a vision tower included; tied ones once."""
    dtype: str
    """In which the config says that weights are stored, such as bfloat16; that where it says nothing."""
    norms: Norms
    qk_norm: bool
    """Whether some layer normalises queries or keys before they are compared."""
    query_groups: int | None
    """Query heads that share a key and a value head; None where latents stand for keys and values."""
    cached: tuple[int, ...]
    """Numbers that a KV cache keeps for each token, by layer: keys and values, or the latent that they come from."""

    @property
    def weight_bytes(self) -> int:
        """Of all parameters in `dtype`, as if none were quantised."""
        return self.parameters * self.item_bytes

    @property
    def item_bytes(self) -> int:
        """Of a number in `dtype`."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype.itemsize

    def cache_bytes(self, layers: Layers, tokens: int) -> int:
        """Of a KV cache in `dtype` for one sequence of `tokens`; layers with a window keep no more than it."""
        kept = (
            tokens if layer.window is None else min(layer.window, tokens)
            for layer in layers.all[: len(self.cached)]  # one for each
        )
        return self.item_bytes * sum(width * count for width, count in zip(self.cached, kept, strict=True))


def read_structure(model: nn.Module) -> Structure:
    """Of a model on the meta device."""
    config, layers = text_config(model), decoder_layers(model)
    attention = [attention_of(layer) for layer in layers]
    shared = getattr(config, "num_kv_shared_layers", None) or 0
    own = len(layers) - shared  # the last ones read the caches of others
    return Structure(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        dtype=_dtype(model.config, config),
        norms=_norms(layers),
        qk_norm=any(_has(module, _QK_NORM) for module in attention if module is not None),
        query_groups=next((groups for module in attention if (groups := _query_groups(module))), None),
        cached=tuple(_cached(module) if i < own else 0 for i, module in enumerate(attention)),
    )


def _dtype(*configs: Any) -> str:
    for config in configs:
        name = str(getattr(config, "dtype", None)).removeprefix("torch.")
        if isinstance(getattr(torch, name, None), torch.dtype):
            return name
    return "bfloat16"


def _norms(layers: Iterable[nn.Module]) -> Norms:
    layers = list(layers)
    if not any(_has(layer, _NORM_AFTER) for layer in layers):
        return "before"
    return "around" if any(_has(layer, _NORM_BEFORE) for layer in layers) else "after"


def _has(module: nn.Module, name: re.Pattern[str]) -> bool:
    return any(
        name.fullmatch(child) is not None and not isinstance(found, nn.Identity)
        for child, found in module.named_children()
    )


def _query_groups(attention: nn.Module | None) -> int | None:
    values, out = _values(attention), _linear(attention, _OUTPUTS)
    if values is None or out is None or not values:
        return None
    return max(out.in_features // values, 1)


def _values(attention: nn.Module | None) -> int | None:
    """The width of all value heads together; None where they come from a latent."""
    if (fused := _linear(attention, _FUSED)) is not None and (out := _linear(attention, _OUTPUTS)) is not None:
        return (fused.out_features - out.in_features) // 2
    projection = _linear(attention, ("v_proj", "k_proj"))  # Gemma-4 may take its keys for values
    return None if projection is None else projection.out_features


def _cached(attention: nn.Module | None) -> int:
    if (latent := _linear(attention, _LATENT)) is not None:
        return latent.out_features
    values = _values(attention) or 0
    keys = _linear(attention, ("k_proj",))
    return values + (values if keys is None else keys.out_features)


def _linear(attention: nn.Module | None, names: Iterable[str]) -> nn.Linear | None:
    """The first projection of one of these names."""
    return next((found for found in _linears(attention, names)), None)


def _linears(attention: nn.Module | None, names: Iterable[str]) -> Iterator[nn.Linear]:
    children = {} if attention is None else dict(attention.named_children())
    yield from (found for name in names if isinstance(found := children.get(name), nn.Linear))
