"""Whether factors belong to a rotary embedding: one rule for everyone who reads a factor file."""

from __future__ import annotations

from search_space.errors import FactorsDoNotFit
from search_space.factors.factor_file import FactorFile
from search_space.rope.config import RopeConfig


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
    length, in_file = rope.original_max_position_embeddings, file.original_max_position_embeddings
    if in_file > length:
        raise FactorsDoNotFit(
            f"original_max_position_embeddings must be at most the model's, {length}, "
            f"but the factor file says {in_file}: {_advice(file)}"
        )


def _advice(file: FactorFile) -> str:
    return f"give the model that they were found for, {file.model.name!r}, or search factors for this one"
