"""The config of a model as its own class reads it. No code from a model's directory is ever run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ropewalk.errors import UnsupportedRope

_ROPE_KEYS = ("rope_parameters", "rope_scaling")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")  # 0 in the dense members of a family
_SIZES = {
    "num_hidden_layers": 1024,
    "hidden_size": 1 << 20,
    "num_attention_heads": 1 << 16,
    "num_key_value_heads": 1 << 16,
    "head_dim": 1 << 16,
    "vocab_size": 1 << 24,
    "intermediate_size": 1 << 24,
    **dict.fromkeys(_EXPERTS, 1 << 16),
}
_MOST_SHOWN = 200  # characters of what a library says


def load_config(stated: Mapping[str, object]) -> Any:
    """The config object that the dict of a ``config.json`` stands for, its gaps filled by the family's class.

    Raises:
        UnsupportedRope: no class of transformers has this model type, or its class refuses the config.
    """
    model_type = stated.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise UnsupportedRope(f"config.json must state its model_type, but has model_type={model_type!r}")
    _check_theta(stated)
    _check_rope_blocks(stated)
    _check_numbers(stated)
    if model_type not in CONFIG_MAPPING:
        remote = isinstance(stated.get("auto_map"), Mapping)
        reason = "its code comes with the checkpoint and is never run here" if remote else "so its code is not known"
        raise UnsupportedRope(
            "the model's code must be part of transformers, but transformers "
            f"{transformers.__version__} has no model_type={model_type!r}: {reason}"
        )
    try:
        return CONFIG_MAPPING[model_type].from_dict(normalised(stated))
    except Exception as error:  # each class raises what its checks raise
        raise UnsupportedRope(
            f"transformers must be able to read config.json, but its class for {model_type} says: {said_by(error)}"
        ) from error


def said_by(error: Exception) -> str:
    """What a library's error says, on one line."""
    text = " ".join(str(error).split())
    shown = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
    return f"{type(error).__name__}: {shown}" if text else type(error).__name__


def normalised(stated: Mapping[str, object]) -> dict[str, object]:
    """The config with two older spellings put as transformers 5 reads them.

    ``su`` is ``longrope`` under its first name; and MiniCPM3's class reads a ``factor`` that its published config
    leaves to the ratio of the two lengths.
    """
    config = dict(stated)
    for name in ("text_config", "llm_config"):
        if isinstance(inner := config.get(name), Mapping):
            config[name] = normalised(inner)
    for name in _ROPE_KEYS:
        if isinstance(block := config.get(name), Mapping):
            config[name] = _normalised_block(block, config)
    return config


def _normalised_block(block: Mapping[str, object], config: Mapping[str, object]) -> dict[str, object]:
    kind = block.get("rope_type", block.get("type"))
    if kind not in ("su", "longrope"):
        return dict(block)
    result = {**block, "rope_type": "longrope"}
    result.pop("type", None)
    original = result.get("original_max_position_embeddings", config.get("original_max_position_embeddings"))
    longest = config.get("max_position_embeddings")
    if isinstance(original, int) and original > 0:
        result["original_max_position_embeddings"] = original
        if "factor" not in result and isinstance(longest, int):
            result["factor"] = longest / original
    return result


def _check_rope_blocks(stated: Mapping[str, object]) -> None:
    """Raise UnsupportedRope for what would fail far from its cause, or be read as one of two statements."""
    for where, block in rope_blocks(stated):
        if not isinstance(block, Mapping):
            raise UnsupportedRope(f"{where} must be an object, but got {block!r}")
        kinds = [block[name] for name in ("rope_type", "type") if block.get(name) is not None]
        # As transformers saves Qwen2-VL: mrope has the frequencies of default, and axes for pictures.
        if len(kinds) > 1 and kinds[0] != kinds[1] and kinds != ["default", "mrope"]:
            raise UnsupportedRope(f"{where} must have one type, but got rope_type={kinds[0]!r}, type={kinds[1]!r}")
        _check_theta(block)
        outer, given = stated.get("rope_theta"), block.get("rope_theta")
        if outer is not None and given is not None and outer != given:
            raise UnsupportedRope(
                f"rope_theta must have one value, but got {where}.rope_theta={given!r}, config.rope_theta={outer!r}"
            )


def _check_theta(stated: Mapping[str, object]) -> None:
    for name in ("rope_theta", "rotary_emb_base"):
        value = stated.get(name)
        try:
            number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
        except OverflowError:  # a whole number beyond float's range
            number = math.inf
        if value is not None and not (math.isfinite(number) and number > 1.0):
            raise UnsupportedRope(f"rope_theta must be a finite number above 1, but got {name}={value!r}")


def _check_numbers(stated: Mapping[str, object], where: str = "") -> None:
    """Raise UnsupportedRope for sizes that no model has: a class would build without end, or fail in arithmetic."""
    for name, most in _SIZES.items():
        value, least = stated.get(name), 0 if name in _EXPERTS else 1
        if value is None or _is_within(value, least, most):
            continue
        if not (isinstance(value, list) and all(_is_within(one, least, most) for one in value)):  # one for each layer
            raise UnsupportedRope(f"{where}{name} must be a whole number from {least} to {most}, but got {value!r}")
    for section, inner in stated.items():
        if isinstance(inner, Mapping) and section.endswith("_config"):
            _check_numbers(inner, f"{section}.")


def _is_within(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def rope_blocks(stated: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """The rope parameters that a ``config.json`` states, by where: at the top and in a nested text model."""
    for name in _ROPE_KEYS:
        if stated.get(name) is not None:
            yield name, stated[name]
    for section in ("text_config", "llm_config"):
        if isinstance(inner := stated.get(section), Mapping):
            yield from ((f"{section}.{name}", block) for name, block in rope_blocks(inner))
