"""Whether factors belong to a rotary embedding: one rule for everyone who reads a factor file."""

from __future__ import annotations

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
