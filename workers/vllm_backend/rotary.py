"""Factors written into a loaded vLLM model, in place, on every tensor-parallel rank.

vLLM's own rotary modules keep cos and sin of every position in one table, (positions, 2n) in the model's dtype: n
cosines, then n sines, of position times frequency, times the attention factor. All layers usually share one module. For
some families vLLM runs transformers' code instead, whose modules compute both from n frequencies: see
:class:`ropewalk.models.rotary.RotaryPart`.

vLLM itself is not imported here: its workers import this file by name and mix :class:`RotaryExtension` into their own
class.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from evaluation.documents.skipping import Jump, positions_of
from ropewalk.models.rotary import RotaryPart, parts_of
from ropewalk.rope.config import RopeConfig, compute_inv_freq
from ropewalk.rope.scaling import Scaling

_PACKAGE = "vllm.model_executor.layers.rotary_embedding."
# Their forward passes read rows of `cos_sin_cache`, and nothing else that depends on frequencies.
_WITH_TABLE = frozenset(
    {
        _PACKAGE + "base.RotaryEmbedding",  # Llama, Mistral, Qwen and their kin
        _PACKAGE + "mrope.MRotaryEmbedding",  # Qwen-VL: positions with three axes
        _PACKAGE + "yarn_scaling_rope.YaRNScalingRotaryEmbedding",  # gpt-oss, whatever its config says
        _PACKAGE + "deepseek_scaling_rope.DeepseekScalingRotaryEmbedding",
        _PACKAGE + "gemma4_rope.Gemma4RotaryEmbedding",
    }
)
_LONGROPE = _PACKAGE + "phi3_long_rope_scaled_rope.Phi3LongRoPEScaledRotaryEmbedding"  # any model with that rope_type
_APPLIES_ONLY = _PACKAGE + "common.ApplyRotaryEmb"  # holds no table
_ANGLE_BUFFERS = ("cos_sin_cache", "long_short_cos_sin_cache", "inv_freq", "cos_cached", "freqs_cis")
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_BLOCK_ROWS = 1 << 16  # of float64 angles at a time: 64 MiB at 64 pairs


class UnknownRotary(Exception):
    """The model rotates in a way that this file cannot write to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RescaledLayers:
    """Which layers are written to: those of `layer_type` among `layer_types`, one for each layer; None: all."""

    layer_type: str | None = None
    layer_types: tuple[str, ...] = ()


ALL_LAYERS = RescaledLayers()


@dataclass(frozen=True, kw_only=True, slots=True)
class RotaryFacts:
    """What one rank says of its model."""

    rows: int | None  # of each table: positions; None where cos and sin are computed from frequencies
    width: int  # 2n
    dtype: str  # of the tables, "float32"
    attention_backends: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RotaryValues:
    """What is written: a table (rows, 2n) for vLLM's modules; frequencies (n,) and A for those of transformers."""

    table: torch.Tensor
    inv_freq: torch.Tensor
    attention_factor: float

    @classmethod
    def of(
        cls, rope: RopeConfig, scaling: Scaling, *, rows: int, dtype: torch.dtype, jumps: tuple[Jump, ...] = ()
    ) -> RotaryValues:
        """Of a model with these factors; no rows for one without a table."""
        return cls(
            table=rotary_table(rope, scaling, rows=rows, dtype=dtype, jumps=jumps),
            inv_freq=torch.from_numpy(compute_inv_freq(rope, scaling.factors)).float(),
            attention_factor=rope.attention_factor * scaling.attention_factor,
        )

    @property
    def digests(self) -> frozenset[str]:
        """What a module that holds the values reads back."""
        return frozenset({table_digest(self.table), _part_digest(self.inv_freq, self.attention_factor)})


class _Worker(Protocol):
    """The part of vLLM's worker that the extension stands on."""

    def get_model(self) -> torch.nn.Module: ...


class RotaryExtension:
    """Mixed into vLLM's worker class (`worker_extension_cls`); its methods are asked for with `collective_rpc`."""

    def ropewalk_inspect_rotary(self: _Worker, layers: RescaledLayers) -> RotaryFacts | str:
        """The modules' common shape and dtype; a string says why the model is refused.

        A value, because vLLM wraps what a rank raises in words of its own.
        """
        model = self.get_model()
        try:
            shapes = {_shape(one) for one in rotary_modules(model, layers)}
        except UnknownRotary as error:
            return str(error)
        if len(shapes) != 1:
            found = sorted(map(str, shapes))
            return f"a model's rotary modules must have tables of one shape and dtype, but got {found}"
        rows, width, dtype = shapes.pop()
        attention: list[Any] = [module for module in _decoder(model).modules() if hasattr(module, "attn_backend")]
        backends = {str(layer.attn_backend.get_name()) for layer in attention}
        return RotaryFacts(rows=rows, width=width, dtype=dtype, attention_backends=tuple(sorted(backends)))

    def ropewalk_write_rotary(self: _Worker, values: RotaryValues, layers: RescaledLayers) -> tuple[str, ...]:
        """Put `values` into every module; the hash of each, read back from where the forward pass reads."""
        model = self.get_model()
        with torch.inference_mode():
            for one in rotary_modules(model, layers):
                if isinstance(one, RotaryPart):
                    one.freeze()
                    one.write(values.inv_freq, values.attention_factor)
                else:
                    _table(one).copy_(values.table)
            return tuple(_digest(one, len(values.inv_freq)) for one in rotary_modules(model, layers))


def rotary_modules(
    model: torch.nn.Module, layers: RescaledLayers = ALL_LAYERS
) -> tuple[torch.nn.Module | RotaryPart, ...]:
    """The rotary modules of a vLLM model's decoder that rescaled layers use: vLLM's own, or parts of transformers'.

    Raises:
        UnknownRotary: a module holds angles and is of no class known here, is shared with layers that are not rescaled,
            or there is none; the message names it.
    """
    paths: dict[torch.nn.Module, list[str]] = {}
    for path, module in _decoder(model).named_modules(remove_duplicate=False):
        if _holds_angles(module):
            paths.setdefault(module, []).append(path)
    found = [one for module, used in paths.items() for one in _rescaled(module, used, layers)]
    if not found:
        raise UnknownRotary(f"a model must have a rotary module, but got none in {type(model).__name__}")
    return tuple(found)


def rotary_table(
    rope: RopeConfig, scaling: Scaling, *, rows: int, dtype: torch.dtype, jumps: tuple[Jump, ...] = ()
) -> torch.Tensor:
    """cos and sin of positions 0 to rows - 1, (rows, 2n), times the attention factor; n with pairs that do not turn.

    vLLM counts positions itself, so that row p is read by token p: with `jumps` it holds the angle of the position that
    token p of such a document has. Computed in float64 and rounded once, to `dtype`. Raises InvalidRescaleFactors for
    not one factor per pair.
    """
    inv_freq = torch.zeros(rope.place.table_pairs or rope.num_pairs, dtype=torch.float64)
    inv_freq[: rope.num_pairs] = torch.from_numpy(compute_inv_freq(rope, scaling.factors))
    attention = rope.attention_factor * scaling.attention_factor
    positions = torch.from_numpy(positions_of(rows, jumps)).double() if jumps else torch.arange(rows).double()
    table = torch.empty(rows, 2 * len(inv_freq), dtype=dtype)
    for start in range(0, rows, _BLOCK_ROWS):
        block = table[start : start + _BLOCK_ROWS]
        angles = torch.outer(positions[start : start + len(block)], inv_freq)
        block.copy_(torch.cat((angles.cos(), angles.sin()), dim=-1) * attention)
    return table


def table_digest(table: torch.Tensor) -> str:
    """BLAKE2b of the bytes, 32 hexadecimal digits, wherever the table lies."""
    return hashlib.blake2b(table.detach().cpu().contiguous().view(torch.uint8).numpy().data, digest_size=16).hexdigest()


def _decoder(model: torch.nn.Module) -> torch.nn.Module:
    """The language model: an encoder of pictures has a rotary module too."""
    get: Any = getattr(model, "get_language_model", None)
    return model if get is None else get()


def _rescaled(
    module: torch.nn.Module, paths: Sequence[str], layers: RescaledLayers
) -> Iterator[torch.nn.Module | RotaryPart]:
    parts = list(parts_of(module)) if type(module).__module__.startswith("transformers.") else []
    if parts:
        typed = any(part.layer_type is not None for part in parts)
        yield from (part for part in parts if not typed or part.layer_type == layers.layer_type)
        return
    types = {_layer_type(path, layers) for path in paths}
    if len(types) > 1:
        types.discard("")  # a second name of a layer, in a list that is numbered otherwise
    if layers.layer_type in types and len(types) > 1:
        raise UnknownRotary(
            f"layers of type {layers.layer_type} must have a rotary module of their own, but in {paths[0]} they share "
            f"{_class_name(module)} with others"
        )
    if layers.layer_type in types:
        _table(module)
        yield module


def _layer_type(path: str, layers: RescaledLayers) -> str | None:
    """Of the layer that a module stands in, empty for none; None where types make no difference."""
    if layers.layer_type is None:
        return None
    found = _LAYER.search(f"{path}.")
    number = None if found is None else int(found[1])
    return layers.layer_types[number] if number is not None and number < len(layers.layer_types) else ""


def _class_name(module: torch.nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _holds_angles(module: torch.nn.Module) -> bool:
    name = _class_name(module)
    if name == _APPLIES_ONLY:
        return False
    return (
        name.startswith(_PACKAGE)
        or "rotary" in type(module).__name__.lower()
        or any(isinstance(getattr(module, buffer, None), torch.Tensor) for buffer in _ANGLE_BUFFERS)
    )


def _table(module: torch.nn.Module) -> torch.Tensor:
    # Looked up each time: vLLM replaces the buffer when it casts it.
    name = _class_name(module)
    if name in _WITH_TABLE:
        table: torch.Tensor = module.get_buffer("cos_sin_cache")
        return table
    if name == _LONGROPE and vars(module).get("use_long_rope"):
        # The table of the short factors comes first and is never read when the engine's limit is beyond it.
        short_rows = int(vars(module)["original_max_position_embeddings"])
        return module.get_buffer("long_short_cos_sin_cache")[short_rows:]
    known = ", ".join(sorted(one.rsplit(".", 1)[1] for one in _WITH_TABLE if not one.endswith(".RotaryEmbedding")))
    raise UnknownRotary(
        f"a model's rotary modules must be vLLM's RotaryEmbedding or one whose table can be written to ({known}; "
        f"Phi3LongRoPEScaledRotaryEmbedding in long mode), but got {name}"
    )


def _shape(one: torch.nn.Module | RotaryPart) -> tuple[int | None, int, str]:
    """Rows, width and dtype."""
    if isinstance(one, RotaryPart):
        return None, 2 * len(one.inv_freq), "float32"
    rows, width = _table(one).shape
    return rows, width, str(_table(one).dtype).removeprefix("torch.")


def _digest(one: torch.nn.Module | RotaryPart, pairs: int) -> str:
    """Of what a forward pass reads; of frequencies only the first `pairs`, beyond which nothing may turn."""
    if not isinstance(one, RotaryPart):
        return table_digest(_table(one))
    if torch.any(one.inv_freq[pairs:] != 0):
        return "further pairs turn"
    return _part_digest(one.inv_freq[:pairs], one.attention_scaling or 0.0)


def _part_digest(inv_freq: torch.Tensor, attention_factor: float) -> str:
    return table_digest(torch.cat((inv_freq.detach().cpu().double(), torch.tensor([attention_factor]).double())))
