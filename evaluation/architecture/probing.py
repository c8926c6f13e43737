"""What each layer of a model does: whether it attends, rotates, and how far it sees."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from evaluation.architecture.layers import Layer, Layers
from evaluation.architecture.skeleton import build_skeleton, decoder_layers
from ropewalk.models.rotary import RotaryPart, rotary_parts, text_config

_TOKENS = 4
_WINDOWED = ("sliding_attention", "chunked_attention", "local_attention")


def probe_layers(model: nn.Module) -> Layers:
    """The layers of a model on the meta device, whose rotary modules no longer scale by length afterwards."""
    for part in rotary_parts(model):
        part.freeze()
    config = text_config(model)
    types = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None)
    layers = decoder_layers(model)
    return Layers(
        tuple(
            _layer(model, layer, types[i] if types is not None and len(types) == len(layers) else None)
            for i, layer in enumerate(layers)
        )
    )


def layers_of(config: Any) -> Layers:
    """The layers of the model of a config, which is left as it is. Raises UnsupportedRope."""
    return probe_layers(build_skeleton(copy.deepcopy(config)))


def _layer(model: nn.Module, layer: nn.Module, layer_type: str | None) -> Layer:
    attention = attention_of(layer)
    if attention is None:
        return Layer(attends=False, rotates=False, layer_type=layer_type)
    return Layer(
        rotates=_rotates(model, attention, layer_type),
        window=_window(text_config(model), attention, layer_type),
        layer_type=layer_type,
    )


def attention_of(layer: nn.Module) -> nn.Module | None:
    """The module of a layer that projects queries or keys, if it is one that compares all positions.

    A hybrid names its whole layers after what is in them.
    """
    found = [
        module
        for module in layer.modules()
        if any(word in type(module).__name__.lower() for word in ("attention", "attn", "mla"))
        and not any(word in type(module).__name__.lower() for word in ("linear", "lightning", "norm", "layer"))
        and list(module.children())
    ]
    return found[0] if found else None


def _window(config: Any, attention: nn.Module, layer_type: str | None) -> int | None:
    """Tokens that a layer sees, its own included; None for all."""
    if layer_type is not None and layer_type not in _WINDOWED:
        return _own_window(attention) if layer_type == "attention" else None
    if layer_type == "chunked_attention":
        return _positive(getattr(config, "attention_chunk_size", None))
    own = _own_window(attention)
    if own is not None or layer_type is not None:
        return own if own is not None else _positive(getattr(config, "sliding_window", None))
    if getattr(config, "use_sliding_window", True) is False:
        return None
    return _positive(getattr(config, "sliding_window", None)) or _positive(
        getattr(config, "attention_window_size", None)
    )


def _own_window(attention: nn.Module) -> int | None:
    return _positive(getattr(attention, "sliding_window", None))


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _rotates(model: nn.Module, attention: nn.Module, layer_type: str | None) -> bool:
    """Whether the layer's forward pass multiplies anything by cos and sin.

    Asked by running it on the meta device with marked ones. One that cannot be run so is taken to rotate: what is
    written into its module then still says whether factors change a score.
    """
    parts = rotary_parts(model)
    if not parts:
        return False
    part = next((one for one in parts if one.layer_type == layer_type), parts[0])
    uses: list[str] = []
    try:
        with torch.no_grad(), torch.device("meta"):
            _run(attention, part, uses)
    except Exception:  # a family whose attention wants more than positions and a hidden state
        return True
    return bool(uses)


def _run(attention: nn.Module, part: RotaryPart, uses: list[str]) -> None:
    config: Any = part.config if part.config is not None else getattr(attention, "config", None)
    hidden = torch.zeros(1, _TOKENS, config.hidden_size, dtype=next(attention.parameters()).dtype, device="meta")
    positions = torch.arange(_TOKENS, device="meta")[None]
    marked = _mark(_embeddings(part, hidden, positions), uses)
    known = inspect.signature(attention.forward).parameters
    given: dict[str, Any] = {
        "position_embeddings": marked,
        "freqs_cis": marked,
        "position_ids": positions,
        "attention_mask": None,
        "past_key_values": None,
        "alibi": None,
    }
    arguments = {name: value for name, value in given.items() if name in known}
    first = next(iter(known))
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: _mark(output, uses))
        for module in attention.modules()
        if any(module is own.module for own in [part])
    ]
    try:
        attention(**{first: hidden}, **arguments)
    finally:
        for hook in hooks:
            hook.remove()


def _embeddings(part: RotaryPart, hidden: torch.Tensor, positions: torch.Tensor) -> Any:
    try:
        return part.forward(hidden, positions)
    except (IndexError, RuntimeError, ValueError):  # positions with an axis each for time, height and width
        return part.forward(hidden, positions.expand(3, *positions.shape))


def _mark(value: Any, uses: list[str]) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_mark(one, uses) for one in value)
    if isinstance(value, torch.Tensor):
        marked = value.as_subclass(_Marked)
        marked.uses = uses
        return marked
    return value


class _Marked(torch.Tensor):
    """cos or sin: notes when it meets a tensor that is not."""

    uses: list[str]

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        tensors = [one for one in args if isinstance(one, torch.Tensor)]
        marked = [one for one in tensors if isinstance(one, _Marked)]
        uses = marked[0].uses if marked and hasattr(marked[0], "uses") else []
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        if len(tensors) > len(marked) > 0:
            uses.append(func.__name__)
            return result.as_subclass(torch.Tensor) if isinstance(result, torch.Tensor) else result
        return _mark(result, uses) if marked and isinstance(result, torch.Tensor | tuple) else result
