"""From a model's name to its inspection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.architecture.layers import Layers
from evaluation.models.source import ModelSource, read_config, resolve_model
from evaluation.models.warnings import model_warnings
from evaluation.models.windows import check_reach
from ropewalk.errors import UnsupportedRope
from ropewalk.rope.config import RopeConfig, scale, wavelengths
from ropewalk.rope.critical_pair import ten_period_critical_pair, theoretical_critical_pair
from ropewalk.wire.inspection import Inspection, LayerFacts, Memory, OwnScaling, Rotation
from service.inspection.consumers import consumers
from service.inspection.priors import priors

if TYPE_CHECKING:
    from evaluation.architecture.reading import Architecture

DEFAULT_SCALE = 4


def inspect_model(model: str, *, target_length: int | None = None, original_length: int | None = None) -> Inspection:
    """Read a model's small files and its own code; no weights. L' is `target_length`, or else four times L.

    Raises:
        EvaluationError: the model is not found, or is none.
        UnsupportedRope: its positions cannot be rescaled; says why.
        InvalidOriginalLength: L is not known, or more was given than the model serves.
        InvalidTargetLength: L' is below L.
    """
    from evaluation.architecture.reading import read_architecture  # transformers takes seconds

    source = resolve_model(model, original_length=original_length, weights=False)
    read = read_architecture(read_config(source.path), original_length=original_length)
    length = read.rope.original_max_position_embeddings
    target = DEFAULT_SCALE * length if target_length is None else target_length
    scale(read.rope, target)  # checks it
    return Inspection(
        model=source.name,
        revision=source.revision,
        model_type=read.model_type,
        model_class=read.model_class,
        original_length=length,
        original_length_from=read.length_from,
        target_length=target,
        rotation=_rotation(read.rope),
        layers=_layers(read.layers, read.rope),
        consumers=tuple(consumers(read, name=source.name, target_length=target)),
        memory=_memory(read, target),
        warnings=_warnings(source, target),
        priors=priors(read),
    )


def _rotation(rope: RopeConfig) -> Rotation:
    own = rope.published
    factors = () if own is None else own.factors.values
    return Rotation(
        rope_theta=rope.rope_theta,
        rotary_dim=rope.rotary_dim,
        num_pairs=rope.num_pairs,
        pairs_beyond_length=int((wavelengths(rope) > rope.original_max_position_embeddings).sum()),
        theoretical_critical_pair=theoretical_critical_pair(rope),
        ten_period_critical_pair=ten_period_critical_pair(rope),
        own_scaling=None
        if own is None
        else OwnScaling(
            rope_type=own.rope_type,
            smallest_factor=min(factors),
            largest_factor=max(factors),
            attention_factor=own.attention_factor,
        ),
    )


def _layers(layers: Layers, rope: RopeConfig) -> LayerFacts:
    return LayerFacts(
        kinds=tuple(layers.kinds()),
        reach=layers.reach,
        rotary_window=layers.rotary_window,
        rescaled=_rescaled(layers, rope.place.layer_type),
    )


def _rescaled(layers: Layers, layer_type: str | None) -> str:
    rotary = [layer for layer in layers.all if layer.rotates]
    if not rotary:  # the layers of the family stand in no list
        return "every layer that rotates"
    if layer_type is None:
        return "the one rotary layer" if len(rotary) == 1 else f"all {len(rotary)} rotary layers"
    chosen = sum(layer.layer_type == layer_type for layer in rotary)
    rest = len(rotary) - chosen
    kept = f"; the {rest} other rotary layers keep their own embedding" if rest else ""
    return f"the {chosen} {layer_type} {'layer' if chosen == 1 else 'layers'}{kept}"


def _memory(read: Architecture, target_length: int) -> Memory:
    structure = read.structure
    return Memory(
        parameters=structure.parameters,
        dtype=structure.dtype,
        weight_bytes=structure.weight_bytes,
        kv_cache_bytes=structure.cache_bytes(read.layers, target_length),
    )


def _warnings(source: ModelSource, target_length: int) -> tuple[str, ...]:
    found = model_warnings(source, target_length)
    try:
        check_reach(source, target_length)
    except UnsupportedRope as error:
        found = (*found, str(error))
    return found
