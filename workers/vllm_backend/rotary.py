"""Factors written into a loaded vLLM model, in place, on every tensor-parallel rank.

vLLM keeps cos and sin of every position in one table per rotary module, (positions, 2n) in the model's dtype: n
cosines, then n sines, of position times frequency, times the attention factor. All layers usually share one module.
vLLM itself is not imported here: its workers import this file by name and mix :class:`RotaryExtension` into their own
class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from search_space.rope.config import RopeConfig, compute_inv_freq
from search_space.rope.scaling import Scaling

_PACKAGE = "vllm.model_executor.layers.rotary_embedding."
_PLAIN = _PACKAGE + "base.RotaryEmbedding"  # Llama, Mistral, Qwen and their kin
_LONGROPE = _PACKAGE + "phi3_long_rope_scaled_rope.Phi3LongRoPEScaledRotaryEmbedding"  # any model with that rope_type
_APPLIES_ONLY = _PACKAGE + "common.ApplyRotaryEmb"  # holds no table
_ANGLE_BUFFERS = ("cos_sin_cache", "long_short_cos_sin_cache", "inv_freq", "cos_cached", "freqs_cis")
_BLOCK_ROWS = 1 << 16  # of float64 angles at a time: 64 MiB at 64 pairs


class UnknownRotary(Exception):
    """The model rotates in a way that this file cannot write to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RotaryFacts:
    """What one rank says of its model."""

    rows: int  # of each table: positions
    width: int  # 2n
    dtype: str  # of the tables, "float32"
    attention_backends: tuple[str, ...]


class _Worker(Protocol):
    """The part of vLLM's worker that the extension stands on."""

    def get_model(self) -> torch.nn.Module: ...


class RotaryExtension:
    """Mixed into vLLM's worker class (`worker_extension_cls`); its methods are asked for with `collective_rpc`."""

    def ropewalk_inspect_rotary(self: _Worker) -> RotaryFacts | str:
        """The tables' common shape and dtype; a string says why the model is refused.

        A value, because vLLM wraps what a rank raises in words of its own.
        """
        model = self.get_model()
        try:
            tables = [table for _, table in rotary_tables(model)]
        except UnknownRotary as error:
            return str(error)
        shapes = {(tuple(table.shape), table.dtype) for table in tables}
        if len(shapes) != 1:
            return (
                f"a model's rotary modules must have tables of one shape and dtype, but got {sorted(map(str, shapes))}"
            )
        ((rows, width), dtype) = shapes.pop()
        layers: list[Any] = [module for module in model.modules() if hasattr(module, "attn_backend")]
        backends = {str(layer.attn_backend.get_name()) for layer in layers}
        return RotaryFacts(
            rows=rows,
            width=width,
            dtype=str(dtype).removeprefix("torch."),
            attention_backends=tuple(sorted(backends)),
        )

    def ropewalk_write_rotary(self: _Worker, table: torch.Tensor) -> tuple[str, ...]:
        """Put `table` into every rotary module; the hash of each, read back from where the forward pass reads."""
        model = self.get_model()
        with torch.inference_mode():
            for _, target in rotary_tables(model):
                target.copy_(table)
            return tuple(table_digest(found) for _, found in rotary_tables(model))


def rotary_tables(model: torch.nn.Module) -> Iterator[tuple[torch.nn.Module, torch.Tensor]]:
    """Each rotary module of a vLLM model with the part of its buffer that a forward pass reads, (positions, 2n).

    Raises:
        UnknownRotary: a module holds angles and is of no class known here, or there is none; the message names it.
    """
    found = [module for module in model.modules() if _holds_angles(module)]
    if not found:
        raise UnknownRotary(f"a model must have a rotary module, but got none in {type(model).__name__}")
    for module in found:
        yield module, _table(module)


def rotary_table(rope: RopeConfig, scaling: Scaling, *, rows: int, dtype: torch.dtype) -> torch.Tensor:
    """cos and sin of positions 0 to rows - 1, (rows, 2n), times the attention factor.

    Computed in float64 and rounded once, to `dtype`. Raises InvalidRescaleFactors for not one factor per pair.
    """
    inv_freq = torch.from_numpy(compute_inv_freq(rope, scaling.factors))
    attention = rope.attention_factor * scaling.attention_factor
    table = torch.empty(rows, 2 * rope.num_pairs, dtype=dtype)
    for start in range(0, rows, _BLOCK_ROWS):
        block = table[start : start + _BLOCK_ROWS]
        angles = torch.outer(torch.arange(start, start + len(block), dtype=torch.float64), inv_freq)
        block.copy_(torch.cat((angles.cos(), angles.sin()), dim=-1) * attention)
    return table


def table_digest(table: torch.Tensor) -> str:
    """BLAKE2b of the bytes, 32 hexadecimal digits, wherever the table lies."""
    return hashlib.blake2b(table.detach().cpu().contiguous().view(torch.uint8).numpy().data, digest_size=16).hexdigest()


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
    if name == _PLAIN:
        table: torch.Tensor = module.get_buffer("cos_sin_cache")
        return table
    if name == _LONGROPE and vars(module).get("use_long_rope"):
        # The table of the short factors comes first and is never read when the engine's limit is beyond it.
        short_rows = int(vars(module)["original_max_position_embeddings"])
        return module.get_buffer("long_short_cos_sin_cache")[short_rows:]
    raise UnknownRotary(
        "a model's rotary modules must be vLLM's RotaryEmbedding or Phi3LongRoPEScaledRotaryEmbedding in long mode, "
        f"but got {name}"
    )
