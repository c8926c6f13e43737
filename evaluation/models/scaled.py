"""The model that a scorer loads: where its files are and what its rotary embedding was before any scaling."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from evaluation.errors import UnsupportedModel
from evaluation.models.source import ModelSource, model_directory, read_config, resolve_model
from search_space.rope.hf_config import read_rope

# Where a Hugging Face config may keep its scaling, and the lengths that scaling changes.
_SCALING_KEYS = ("rope_parameters", "rope_scaling")


def find_model(name: str, *, original_length: int | None = None, weights: bool = True) -> ModelSource:
    """Resolve `name` as :func:`evaluation.models.source.resolve_model` does, and accept a `longrope` directory too.

    A search starts from an unscaled model, so the resolver refuses a scaled one. A scorer must also score what a search
    leads to: a checkpoint fine-tuned with found factors. Its config names them, but the caller passes the factors to
    score with, so only the embedding below them is read here; its original length is `original_length`, or else what
    the config says.

    Raises:
        EvaluationError, SearchSpaceError: not found, or not a model with a rotary embedding that can be rescaled.
    """
    directory = model_directory(name)
    config = None if directory is None else _read_longrope_config(directory)
    if directory is None or config is None:
        return resolve_model(name, weights=weights)
    rope = read_rope(without_longrope(config, original_length=original_length))
    return ModelSource(name=name, path=directory.resolve(), rope=rope)


def end_tokens(path: Path) -> frozenset[int]:
    """What ends a text, as the model's generation config says it, or else its config; nothing if neither does."""
    for name in ("generation_config.json", "config.json"):
        try:
            config = json.loads((path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        found = config.get("eos_token_id", config.get("text_config", {}).get("eos_token_id"))
        if found is not None:
            return frozenset(found if isinstance(found, list) else [found])
    return frozenset()


def without_longrope(config: Mapping[str, object], *, original_length: int | None = None) -> dict[str, object]:
    """The config as it was before `longrope`: the same rope_theta and rotary width, no scaling, the original length."""
    if original_length is None:
        return without_longrope(config, original_length=_stated_original_length(config))
    plain: dict[str, object] = {"rope_type": "default"}
    for value in _scaling_blocks(config):
        plain |= {key: value[key] for key in ("rope_theta", "partial_rotary_factor") if key in value}
    kept = {key: value for key, value in config.items() if key not in _SCALING_KEYS}
    kept.pop("original_max_position_embeddings", None)
    return kept | {"rope_parameters": plain, "max_position_embeddings": original_length}


def _stated_original_length(config: Mapping[str, object]) -> int:
    for block in (config, *_scaling_blocks(config)):
        if isinstance(length := block.get("original_max_position_embeddings"), int):
            return length
    raise UnsupportedModel("a longrope model must state original_max_position_embeddings, but its config does not")


def _read_longrope_config(directory: Path) -> Mapping[str, object] | None:
    """The config of a `longrope` model; None for anything else, which the resolver has words for."""
    try:
        config = read_config(directory)
    except UnsupportedModel:
        return None
    return config if longrope_block(config) is not None else None


def longrope_block(config: Mapping[str, object]) -> Mapping[str, object] | None:
    """The part of a Hugging Face config that names `longrope` and its factors; None where there is none."""
    for value in _scaling_blocks(config):
        return value if value.get("rope_type", value.get("type")) == "longrope" else None
    return None


def _scaling_blocks(config: Mapping[str, object]) -> list[Mapping[str, object]]:
    return [value for key in _SCALING_KEYS if isinstance(value := config.get(key), Mapping)]
