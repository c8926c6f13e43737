"""Everything that a search must know of a model, read from its config by the model's own code."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from torch import nn
from transformers.utils import logging as transformers_logging

from evaluation.architecture.config import load_config, rope_blocks
from evaluation.architecture.flops import ForwardFlops, count_flops, guess_flops
from evaluation.architecture.frequencies import published_length, read_rope
from evaluation.architecture.layers import Layers
from evaluation.architecture.probing import probe_layers
from evaluation.architecture.skeleton import build_skeleton
from evaluation.architecture.structure import Structure, read_structure
from evaluation.architecture.verifying import hf_problem
from ropewalk.errors import UnsupportedRope
from ropewalk.models.rotary import RotaryPart, rescaled_parts, rotary_parts, text_config
from ropewalk.rope.config import RopeConfig

# The library's config and model code is not made for several threads at its first import.
_READING = threading.Lock()


LengthFrom = Literal["original_length", "max_position_embeddings", "scaling"]
"""Where L is from: it was given, the config states it, or it is what the model's own scaling makes of a shorter one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """A model without its weights."""

    model_type: str
    model_class: str
    rope: RopeConfig
    length_from: LengthFrom
    served_length: int | None
    """Tokens that the model serves as published, whatever L is; None where its config does not say."""
    layers: Layers
    structure: Structure


def read_architecture(config: Mapping[str, object], *, original_length: int | None = None) -> Architecture:
    """Read the dict of a ``config.json``; L is `original_length` or what the model serves.

    Raises:
        UnsupportedRope: the model has no rotary embedding that one vector of factors can rescale; says why.
    """
    with _READING, _quietly():
        return _read(json.dumps(config, sort_keys=True), original_length)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outline:
    """What decides the cost of a model: its operations, weights and caches, and the sizes that activations have."""

    layers: Layers
    structure: Structure
    flops: ForwardFlops
    counted: bool
    """Whether the operations are those of the model's code; else of its weights."""
    hidden: int
    intermediate: int
    vocabulary: int


def read_outline(config: Mapping[str, object]) -> Outline:
    """Read the dict of a ``config.json`` for what its passes cost.

    Raises:
        UnsupportedRope: transformers has no language model for it.
    """
    with _READING, _quietly():
        return _outline(json.dumps(config, sort_keys=True))


@lru_cache(maxsize=64)
def _outline(config: str) -> Outline:
    model = build_skeleton(load_config(json.loads(config)))
    text, layers = text_config(model), probe_layers(model)
    try:
        flops, counted = count_flops(model, layers), True
    except UnsupportedRope:
        flops, counted = guess_flops(model, layers), False
    width = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    return Outline(
        layers=layers,
        structure=read_structure(model),
        flops=flops,
        counted=counted,
        hidden=text.hidden_size,
        intermediate=max(width) if isinstance(width, list) else width,
        vocabulary=text.vocab_size,
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' warnings of keys that it does not know, which exports hold for other readers."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


@lru_cache(maxsize=64)
def _read(config: str, original_length: int | None) -> Architecture:
    stated = json.loads(config)
    loaded = load_config(stated)
    model = build_skeleton(loaded)
    part = _rescaled(model)
    scaled = any(where.endswith("rope_scaling") and block for where, block in rope_blocks(stated))
    rope = read_rope(part, loaded, original_length=original_length, clears_scaling=scaled)
    rope = replace(rope, place=replace(rope.place, hf_refusal=hf_problem(stated, rope)))
    layers = probe_layers(model)
    if _has_alibi(text_config(model)) or (layers.all and not any(layer.rotates for layer in layers.all)):
        raise UnsupportedRope(f"the model must use rotary positions, but {_other_positions(model)}")
    stated_length = getattr(text_config(model), "max_position_embeddings", None)
    served: LengthFrom = (
        "max_position_embeddings" if rope.original_max_position_embeddings == stated_length else "scaling"
    )
    return Architecture(
        model_type=loaded.model_type,
        model_class=type(model).__name__,
        rope=rope,
        length_from=served if original_length is None else "original_length",
        served_length=published_length(part, text_config(model)),
        layers=layers,
        structure=read_structure(model),
    )


def _rescaled(model: nn.Module) -> RotaryPart:
    """The frequencies that a search rescales. Several modules of a model compute the same ones from one config."""
    parts = rescaled_parts(model)
    if not parts:
        raise UnsupportedRope(f"the model must use rotary positions, but {_other_positions(model)}")
    if hasattr(parts[0].module, "rope_init_fn"):  # PhiMoE's, which it asks for no length
        raise UnsupportedRope(
            "the model's rotary module must rotate by the frequencies that it holds, but "
            f"{type(parts[0].module).__name__} computes others in every pass, and for longrope "
            "those of short_factor at every length"
        )
    return parts[0]


def _other_positions(model: nn.Module) -> str:
    """What a model without rotary modules has instead, as a clause."""
    name = type(model).__name__
    text = text_config(model)
    layers = probe_layers(model)
    if _has_alibi(text):
        return f"{name} biases its attention by distance (ALiBi)"
    if any("relative_attention_bias" in path for path, _ in model.named_modules()):
        return f"{name} has relative position biases"
    if any("embed_positions" in path for path, _ in model.named_buffers()) and not rotary_parts(model):
        return f"{name} keeps a table of sines per position and reads no rope parameters: no config could hold factors"
    if layers.all and not any(layer.attends for layer in layers.all):
        return f"{name} has no attention layer, whose order of tokens is in its state"
    if any(_is_position_table(path, module) for path, module in model.named_modules()):
        return f"{name} adds learned or fixed embeddings of absolute positions"
    return f"{name} has attention layers without positions"


def _has_alibi(text: Any) -> bool:
    return bool(getattr(text, "alibi", False)) or text.model_type in ("bloom", "mpt")


def _is_position_table(path: str, module: nn.Module) -> bool:
    last = path.rsplit(".", 1)[-1]
    return "position" in last or last in ("wpe", "pos_emb") or "PositionalEmbedding" in type(module).__name__
