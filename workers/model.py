"""The model that a worker opens: its files on this machine, and what scalings multiply."""

from __future__ import annotations

from evaluation.models.source import ModelSource, locate_model, resolve_model
from workers.base import ScorerSettings


def find_model(settings: ScorerSettings, *, weights: bool = True) -> ModelSource:
    """As `settings` say.

    Whoever prepared the work has read the model's rotary embedding already: two readings could differ, and a checkpoint
    that was trained with factors is scored over the embedding below them.

    Raises:
        OSError: its files cannot be had now.
        EvaluationError, RopewalkError: not found, or not a model with a rotary embedding that can be rescaled.
    """
    if settings.files is not None:
        settings.files.fetch(weights=weights)
    if settings.rope is not None:
        return locate_model(settings.model, rope=settings.rope, weights=weights)
    return resolve_model(settings.model, original_length=settings.original_length, weights=weights)
