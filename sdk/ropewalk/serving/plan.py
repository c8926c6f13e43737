"""What a model's config says of how to serve it, where Ropewalk wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from ropewalk.errors import NotServed
from ropewalk.factors.exports.hf import SHORT_MSCALE

PLAN_KEY = "ropewalk"
"""Of an engine's ``additional_config``, which goes to all of its processes, and into the hash of compiled code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingPlan:
    """An engine's lengths in tokens, L and L', and the attention factor of texts within L."""

    original_length: int
    target_length: int
    short_mscale: float

    def as_config(self) -> dict[str, object]:
        """For an engine's config."""
        return asdict(self)

    @classmethod
    def of(cls, additional_config: object) -> Self | None:
        """What an engine's config carries; None for a model that is none of Ropewalk's."""
        carried = additional_config.get(PLAN_KEY) if isinstance(additional_config, Mapping) else None
        return None if carried is None else cls(**carried)


def written_block(rope_parameters: object) -> Mapping[str, Any] | None:
    """The rope parameters that Ropewalk wrote: a config's own, or those of one type of its layers."""
    if not isinstance(rope_parameters, Mapping):
        return None
    if SHORT_MSCALE in rope_parameters:
        return rope_parameters
    return next((b for b in rope_parameters.values() if isinstance(b, Mapping) and SHORT_MSCALE in b), None)


def plan_of(block: Mapping[str, Any], *, target_length: object, engine_length: int) -> ServingPlan:
    """The plan of a config with Ropewalk's rope parameters.

    Raises:
        NotServed: it has lost something since it was written, or the engine shall read more than L'.
    """
    kind, original = block.get("rope_type"), block.get("original_max_position_embeddings")
    if kind != "longrope":
        raise NotServed(f"a config with {SHORT_MSCALE} must have rope_type 'longrope', but has {kind!r}")
    mscale = block[SHORT_MSCALE]
    if not (isinstance(mscale, int | float) and mscale > 0):
        raise NotServed(f"{SHORT_MSCALE} must be a positive number, but got {mscale!r}")
    if not (isinstance(original, int) and isinstance(target_length, int) and 0 < original < target_length):
        raise NotServed(
            "max_position_embeddings must be more than original_max_position_embeddings, "
            f"but the config has {target_length!r} and {original!r}"
        )
    if engine_length > target_length:
        raise NotServed(
            f"--max-model-len must be at most the target length of the factors, {target_length}, but is {engine_length}"
        )
    return ServingPlan(original_length=original, target_length=target_length, short_mscale=float(mscale))


def check_heads(block: Mapping[str, Any], *, head_dim: int) -> None:
    """Raise NotServed unless there is a factor for each pair that vLLM turns in heads so wide."""
    pairs = int(head_dim * block.get("partial_rotary_factor", 1.0)) // 2
    for name in ("short_factor", "long_factor"):
        factors = block.get(name)
        count = len(factors) if isinstance(factors, list | tuple) else None
        if count != pairs:
            raise NotServed(
                f"{name} must have a factor for each of the model's {pairs} pairs, but has {count}: "
                "these are factors of another model"
            )


def check_overrides(block: Mapping[str, Any], *, target_length: int, config: Mapping[str, Any]) -> None:
    """Compare rope parameters that come from outside, by ``--hf-overrides``, with the model's own ``config.json``.

    Raises:
        NotServed: the model has factors already, or these are another model's.
    """
    inner = config.get("text_config")
    stated: Mapping[str, Any] = inner if isinstance(inner, Mapping) else config
    own = next((b for n in ("rope_parameters", "rope_scaling") if isinstance(b := stated.get(n), Mapping)), {})
    length = stated.get("max_position_embeddings")
    if written_block(own) is not None:
        raise NotServed(
            f"a model must be without factors to get others, but its config has those for {length} tokens, and "
            f"--hf-overrides has some for {target_length}"
        )
    plain = own.get("full_attention", own)
    theta = plain.get("rope_theta", stated.get("rope_theta"))
    if theta is not None and theta != block.get("rope_theta"):
        raise NotServed(
            f"rope_theta must be the model's, {theta}, but --hf-overrides says {block.get('rope_theta')}: "
            "these are factors of another model"
        )
    kind = plain.get("rope_type", plain.get("type")) or "default"
    original = block.get("original_max_position_embeddings")
    if kind == "default" and isinstance(length, int) and isinstance(original, int) and original > length:
        raise NotServed(
            f"original_max_position_embeddings must be at most the model's length, {length}, but --hf-overrides says "
            f"{original}: these are factors of another model"
        )
