"""The rotary embedding that a model's code computes, as a value: base, width, length, its own scaling as factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from evaluation.architecture.config import said_by
from evaluation.architecture.doubles import Doubles
from evaluation.architecture.pairing import VLLM_REFUSALS, is_interleaved
from ropewalk.errors import InvalidOriginalLength, RopewalkError, UnsupportedRope
from ropewalk.models.rotary import RotaryPart
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.published import CarriedKeys, ConfigPlace, PairFactors, PublishedScaling

_SAME = 1e-9  # of two frequencies computed in float64
_LENGTH_SCALED = (
    "yarn",
    "linear",
    "dynamic",
)  # whose max_position_embeddings may be the old length
# What a longrope config says in words of its own; all other keys of rope parameters are carried into it.
_REPLACED = frozenset(
    {
        "rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "short_factor", "long_factor",
        "attention_factor", "short_mscale", "long_mscale", "original_max_position_embeddings", "beta_fast", "beta_slow",
        "truncate", "low_freq_factor", "high_freq_factor", "mscale", "finetuned", "max_position_embeddings", "alpha",
    }
)  # fmt: skip


def read_rope(
    part: RotaryPart, config: Any, *, original_length: int | None, clears_scaling: bool = False
) -> RopeConfig:
    """The rotary embedding of `part`, one of those of a model with `config`, as it is for passes of L tokens.

    L is `original_length`, or else what :func:`served_length` says.

    Raises:
        InvalidOriginalLength: no length is stated or given, or more was given than an unscaled model serves.
        UnsupportedRope: a value that is needed is missing or contradicts another; the message has both.
    """
    text = config.get_text_config(decoder=True)
    parameters, own = rope_parameters(text, part.layer_type), _config_of(text, part.layer_type)
    length = _length(text, parameters, original_length)
    theta = float(parameters["rope_theta"])  # checked, or the class's own
    inv_freq, attention_factor = _frequencies(part, parameters, length)
    turning = int(np.count_nonzero(inv_freq))
    ratios = theta ** (-2.0 * np.arange(turning) / (2 * turning)) / inv_freq[:turning]
    ratios[np.abs(ratios - 1.0) < _SAME] = 1.0
    _check_structure(text, parameters, turning)
    stated = _partial(own, parameters, len(inv_freq))
    place = _place(part, own, parameters, stated)
    return RopeConfig(
        rope_theta=theta,
        rotary_dim=2 * turning,
        original_max_position_embeddings=length,
        partial_rotary_factor=stated,
        published=_published(part.rope_type, ratios, attention_factor),
        place=replace(
            place,
            section=_section(config, text),
            table_pairs=None if turning == len(inv_freq) else len(inv_freq),
            own_switch=_own_switch(part, parameters, length),
            clears_scaling=clears_scaling,
            per_layer=bool(getattr(text, "is_heterogeneous", False)),
            interleaved=is_interleaved(part, text),
            vllm_refusal=VLLM_REFUSALS.get(text.model_type),
        ),
    )


def _section(config: Any, text: Any) -> str | None:
    """Where a nested text config stands."""
    if text is config:
        return None
    return next((name for name in getattr(config, "sub_configs", {}) if getattr(config, name, None) is text), None)


def _own_switch(part: RotaryPart, parameters: Mapping[str, Any], length: int) -> int | None:
    original = parameters.get("original_max_position_embeddings")
    differs = parameters.get("short_factor") != parameters.get("long_factor")
    if part.rope_type != "longrope" or not differs or not isinstance(original, int):
        return None
    return original if original < length else None


def _config_of(text: Any, layer_type: str | None) -> Any:
    """The config as layers of a type see it: Gemma-4's heads are wider where attention is full."""
    try:
        return text if layer_type is None else text.per_layer_config[layer_type]
    except (AttributeError, KeyError, ValueError):  # all layers are alike
        return text


def rope_parameters(text: Any, layer_type: str | None) -> Mapping[str, Any]:
    """What the config class made of the rope parameters, its defaults included."""
    found = getattr(text, "rope_parameters", None) or {}
    own = found if layer_type is None else found.get(layer_type)
    return own if isinstance(own, Mapping) else {}


def _length(text: Any, parameters: Mapping[str, Any], original_length: int | None) -> int:
    """L: as asked for, but for no more than an unscaled model serves."""
    if original_length is None:
        return served_length(text, parameters)
    has_own = parameters.get("rope_type") in _LENGTH_SCALED or getattr(text, "max_position_embeddings", None) is None
    if not has_own and original_length > (served := served_length(text, parameters)):
        raise InvalidOriginalLength(
            f"original_length must be at most the tokens that the model serves, {served}, "
            f"but got original_length={original_length}"
        )
    return original_length


def published_length(part: RotaryPart, text: Any) -> int | None:
    """What :func:`served_length` says; None where the config's lengths say nothing, or contradict each other."""
    try:
        return served_length(text, rope_parameters(text, part.layer_type))
    except RopewalkError:
        return None


def served_length(text: Any, parameters: Mapping[str, Any]) -> int:
    """L: the tokens that a model serves as it is published.

    Its max_position_embeddings; for YaRN and linear scaling the scaled original length where that is longer, because
    published configs leave the old length there (Qwen's snippet says 32,768 and means 131,072).

    Raises:
        InvalidOriginalLength: no length is stated.
        UnsupportedRope: an original one is above it.
    """
    stated = getattr(text, "max_position_embeddings", None)
    if stated is None:
        raise InvalidOriginalLength(
            "the config must state max_position_embeddings, but has none: give the tokens that the model was trained "
            "on as original_length (--original-length)"
        )
    length = _positive_int("max_position_embeddings", stated)
    original = parameters.get("original_max_position_embeddings")
    if original is None:
        original = getattr(text, "original_max_position_embeddings", None)
    if original is None:
        return length
    before = _positive_int("original_max_position_embeddings", original)
    if before > length:
        raise UnsupportedRope(
            "original_max_position_embeddings must be at most max_position_embeddings, "
            f"but got original_max_position_embeddings={before}, max_position_embeddings={length}"
        )
    factor = parameters.get("factor")
    if parameters.get("rope_type") in _LENGTH_SCALED and isinstance(factor, int | float):
        return max(length, round(factor * before))
    return length


def _frequencies(part: RotaryPart, parameters: Mapping[str, Any], length: int) -> tuple[NDArray[np.float64], float]:
    """Angles per position, (pairs,), and the attention factor, of a pass over `length` tokens: by the model's code."""
    original = parameters.get("original_max_position_embeddings")
    is_long = part.rope_type == "longrope" and isinstance(original, int) and length > original
    named: dict[str, Any] = {} if part.layer_type is None else {"layer_type": part.layer_type}
    long = partial(ROPE_INIT_FUNCTIONS["longrope"], part.config, torch.device("cpu"), seq_len=length, **named)
    try:
        with Doubles():
            if is_long:
                made, factor = long()
            else:
                module: Any = type(part.module)
                again = RotaryPart(module(part.config), part.layer_type)
                made, factor = again.inv_freq, again.attention_scaling or 1.0
    except Exception as error:  # what a rotary module makes of parameters that do not fit
        raise UnsupportedRope(
            "the model's rotary module must be able to compute its frequencies, "
            f"but {type(part.module).__name__} says: {said_by(error)}"
        ) from error
    inv_freq: NDArray[np.float64] = made.detach().double().numpy()
    turning = np.count_nonzero(inv_freq)
    if not turning or np.any(inv_freq[:turning] <= 0) or not np.all(np.isfinite(inv_freq)):
        raise UnsupportedRope(
            "a rotary module must have frequencies that are finite and positive, those that do not turn last, "
            f"but {type(part.module).__name__} computes {inv_freq.tolist()}"
        )
    return inv_freq, float(factor)


def _published(rope_type: str, ratios: NDArray[np.float64], attention_factor: float) -> PublishedScaling | None:
    if np.all(ratios == 1.0) and attention_factor == 1.0:
        return None
    factors = PairFactors(tuple(ratios.tolist()))
    return PublishedScaling(rope_type=rope_type, factors=factors, attention_factor=attention_factor)


def _place(part: RotaryPart, text: Any, parameters: Mapping[str, Any], stated_partial: float) -> ConfigPlace:
    carried = {key: value for key, value in parameters.items() if key not in _REPLACED and value is not None}
    if carried.get("mscale_all_dim") and "factor" in parameters:
        carried["factor"] = parameters["factor"]  # DeepSeek scales its softmax by both
    if parameters.get("partial_rotary_factor") not in (None, stated_partial):
        carried["partial_rotary_factor"] = stated_partial  # the class ignores its own, the reader of longrope does not
    everything = getattr(text, "rope_parameters", None) or {}
    others = {} if part.layer_type is None else {key: own for key, own in everything.items() if key != part.layer_type}
    switch = parameters.get("original_max_position_embeddings") if "llama_4_scaling_beta" in carried else None
    return ConfigPlace(
        layer_type=part.layer_type,
        carried=CarriedKeys.of(carried),
        others=CarriedKeys.of(others),
        head_dim=_missing_head_dim(text),
        switch_length=switch,
    )


def _missing_head_dim(text: Any) -> int | None:
    """What must be stated for the reader of longrope, which takes a head_dim of None for a number."""
    if not hasattr(text, "head_dim") or text.head_dim is not None:
        return None
    return int(text.hidden_size // text.num_attention_heads)


def _partial(text: Any, parameters: Mapping[str, Any], pairs: int) -> float:
    """The part of a head for which longrope's rule, int(head_dim * part), gives a table of `pairs`."""
    head_dim: int = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    stated = parameters.get("partial_rotary_factor")
    if isinstance(stated, int | float) and 0 < stated <= 1 and int(head_dim * stated) == 2 * pairs:
        return float(stated)
    return min(2.0 * pairs / head_dim, 1.0)


def _check_structure(text: Any, parameters: Mapping[str, Any], pairs: int) -> None:
    """Raise UnsupportedRope for a config whose parts do not fit each other."""
    width = getattr(text, "qk_rope_head_dim", None)
    if isinstance(width, int) and width != 2 * pairs:
        raise UnsupportedRope(
            f"qk_rope_head_dim must be the width that rotates, {2 * pairs} numbers of {pairs} pairs, but got {width}"
        )
    for name in ("short_factor", "long_factor"):
        factors = parameters.get(name)
        if isinstance(factors, list) and len(factors) != pairs:
            raise UnsupportedRope(f"{name} must have one factor per pair, {pairs}, but got {len(factors)}")
    sections = parameters.get("mrope_section")
    if isinstance(sections, list | tuple) and sum(sections) != pairs:
        raise UnsupportedRope(
            f"mrope_section must add up to the pairs, {pairs}, but got {list(sections)}, in all {sum(sections)}"
        )


def _positive_int(label: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or not 1 <= value < 2**31:
        raise UnsupportedRope(f"{label} must be a positive whole number below 2^31, but got {value!r}")
    return int(value)
