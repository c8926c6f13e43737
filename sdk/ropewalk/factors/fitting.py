"""Whether factors belong to a rotary embedding: one rule for everyone who reads a factor file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ropewalk.errors import FactorsDoNotFit
from ropewalk.factors.factor_file import FactorFile
from ropewalk.rope.config import RopeConfig, absolute_factors

_SAME = 1e-6  # of two readings of one config, by two versions of a library


def check_rope(file: FactorFile, rope: RopeConfig) -> None:
    """Compare the RoPE that the factors were found for with a model's.

    The original length in the file may be shorter than the model's, because a search may be told to take it so.

    Raises:
        FactorsDoNotFit: they differ; names the first field that does.
    """
    for name, of_model, in_file in (
        ("rope_theta", rope.rope_theta, file.model.rope_theta),
        ("rotary_dim", rope.rotary_dim, file.model.rotary_dim),
        ("partial_rotary_factor", rope.partial_rotary_factor, file.model.partial_rotary_factor),
    ):
        if of_model != in_file:
            raise FactorsDoNotFit(
                f"{name} must be the model's, {of_model}, but the factor file says {in_file}: {_advice(file)}"
            )
    _check_own_scaling(file, rope)
    check_length(file, rope.original_max_position_embeddings)


def check_length(file: FactorFile, length: int) -> None:
    """Raise FactorsDoNotFit when the factors were found for a longer original length than the model's."""
    in_file = file.original_max_position_embeddings
    if in_file > length:
        raise FactorsDoNotFit(
            f"original_max_position_embeddings must be at most the model's, {length}, "
            f"but the factor file says {in_file}: {_advice(file)}"
        )


def check_config(file: FactorFile, config: Mapping[str, object]) -> None:
    """Compare the factors with what a model's ``config.json`` says of its RoPE; what it does not say is not compared.

    Raises:
        FactorsDoNotFit: they were found for another model, or the config has factors already.
    """
    stated = _section(file, config)
    rope = _rope_block(file, stated)
    if (theta := rope.get("rope_theta", stated.get("rope_theta"))) is not None and theta != file.model.rope_theta:
        raise FactorsDoNotFit(
            f"rope_theta must be the model's, {theta}, "
            f"but the factor file says {file.model.rope_theta}: {_advice(file)}"
        )
    _check_heads(file, rope, stated)
    _check_unscaled(file, rope, stated)
    length = stated.get("max_position_embeddings")
    if isinstance(length, int) and _rope_type(rope) == "default":  # a scaling may serve more than it says
        check_length(file, length)


def _section(file: FactorFile, config: Mapping[str, object]) -> Mapping[str, object]:
    """The text decoder's part; the config itself where the decoder was saved alone."""
    inner = config.get(file.place.section) if file.place.section else None
    return inner if isinstance(inner, Mapping) else config


def _rope_block(file: FactorFile, stated: Mapping[str, object]) -> Mapping[str, object]:
    for name in ("rope_parameters", "rope_scaling"):
        block = stated.get(name)
        if isinstance(block, Mapping):
            inner = block.get(file.place.layer_type) if file.place.layer_type else None
            return inner if isinstance(inner, Mapping) else block
    return {}


def _check_heads(file: FactorFile, rope: Mapping[str, object], stated: Mapping[str, object]) -> None:
    """The heads must be as wide, where the config says so in one of the usual ways.

    Families read a rotary width off their configs in several ways, so that either it or the head that it is a part of
    must be among what can be meant.
    """
    hidden, heads = stated.get("hidden_size"), stated.get("num_attention_heads")
    said = [stated.get(name) for name in ("qk_rope_head_dim", "head_dim", "attention_head_dim", "rotary_dim")]
    if isinstance(hidden, int) and isinstance(heads, int):
        said.append(hidden // heads)
    sizes = [size for size in said if isinstance(size, int)]
    partial = rope.get("partial_rotary_factor", stated.get("partial_rotary_factor"))
    share = partial if isinstance(partial, int | float) else 1.0
    widths = [int(size * share) for size in sizes]
    in_file = file.model.rotary_dim
    whole = round(in_file / file.model.partial_rotary_factor)
    if sizes and file.place.table_pairs is None and not {in_file, whole} & {*sizes, *widths}:
        raise FactorsDoNotFit(
            f"rotary_dim must be the model's, {widths[0]}, but the factor file says {in_file}: {_advice(file)}"
        )


def _rope_type(rope: Mapping[str, object]) -> object:
    return rope.get("rope_type", rope.get("type")) or "default"


def _check_unscaled(file: FactorFile, rope: Mapping[str, object], stated: Mapping[str, object]) -> None:
    """A config with `longrope` has factors: the model's own must be those that the file's were found over."""
    if _rope_type(rope) not in ("longrope", "su"):
        return
    own = file.short_factor.as_array()
    sets = [rope.get(name) for name in ("short_factor", "long_factor")]
    is_own = file.config is not None and file.config.published_rope_type == "longrope"
    if not (is_own and any(isinstance(one, list) and np.allclose(one, own, rtol=_SAME, atol=0.0) for one in sets)):
        raise FactorsDoNotFit(
            f"the model must be as it was published, {file.model.name!r}, but its config has factors for "
            f"{stated.get('max_position_embeddings')} tokens already, and would get those for {file.target_length}"
        )


def _check_own_scaling(file: FactorFile, rope: RopeConfig) -> None:
    """The scaling that the model comes with must be what the factors were found over."""
    of_model, in_file = absolute_factors(rope), file.short_factor.as_array()
    own = np.ones(rope.num_pairs) if of_model is None else of_model
    if not np.allclose(own, in_file, rtol=_SAME, atol=0.0):
        pair = int(np.argmax(np.abs(own / in_file - 1.0)))
        raise FactorsDoNotFit(
            f"short_factor must be the model's own scaling, {own[pair]:.6g} at pair {pair}, "
            f"but the factor file says {in_file[pair]:.6g}: {_advice(file)}"
        )
    if abs(rope.attention_factor / file.rope.attention_factor - 1.0) > _SAME:
        raise FactorsDoNotFit(
            f"the attention factor that the model comes with must be {rope.attention_factor:.6g}, "
            f"but the factor file says {file.rope.attention_factor:.6g}: {_advice(file)}"
        )
    if rope.place.layer_type != file.place.layer_type:
        raise FactorsDoNotFit(
            f"the layers that are rescaled must be the model's, {rope.place.layer_type}, "
            f"but the factor file says {file.place.layer_type}: {_advice(file)}"
        )


def _advice(file: FactorFile) -> str:
    return f"give the model that they were found for, {file.model.name!r}, or search factors for this one"
