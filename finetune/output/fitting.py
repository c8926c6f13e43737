"""Whether a factor file belongs to a model; asked before a job is accepted, so nothing heavy is imported here."""

from __future__ import annotations

from evaluation.models.source import ModelSource, model_sha256
from finetune.errors import FactorsDoNotFit
from search_space.factors.factor_file import FactorFile


def check_model(source: ModelSource, file: FactorFile) -> None:
    """Raise FactorsDoNotFit unless the factor file is for exactly these weights and this rotary embedding."""
    rope = source.rope
    pairs: tuple[tuple[str, object, object], ...] = (
        ("rope_theta", rope.rope_theta, file.model.rope_theta),
        ("rotary_dim", rope.rotary_dim, file.model.rotary_dim),
        ("partial_rotary_factor", rope.partial_rotary_factor, file.model.partial_rotary_factor),
        # Factors computed without weights name none: any weights of this RoPE will do.
        ("sha256 of the weights", model_sha256(source), file.model.sha256 or model_sha256(source)),
    )
    for name, of_model, in_file in pairs:
        if of_model != in_file:
            raise FactorsDoNotFit(f"{name} must be the model's, {of_model}, but the factor file says {in_file}")


def check_fits(source: ModelSource, file: FactorFile) -> None:
    """Raise FactorsDoNotFit unless the factor file is for exactly these weights and asks for a longer window."""
    check_model(source, file)
    trained, original = source.rope.original_max_position_embeddings, file.original_max_position_embeddings
    if original > trained:
        raise FactorsDoNotFit(
            f"original_max_position_embeddings must be at most the model's, {trained}, "
            f"but the factor file says {original}"
        )
    if file.target_length <= original:
        raise FactorsDoNotFit(
            f"target_length must be above the original length to train on, but got target_length={file.target_length}, "
            f"original_max_position_embeddings={original}"
        )
