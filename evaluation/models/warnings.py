"""What a user must know before extending a model to a target length."""

from __future__ import annotations

from evaluation.models.source import ModelSource
from evaluation.models.windows import window_warnings
from ropewalk.factors.exports.row import shorter_length


def model_warnings(source: ModelSource, target_length: int) -> tuple[str, ...]:
    """Of windows that rotating layers see, and of an original length below what the model is published for; empty for
    most."""
    shorter = shorter_length(source.rope.original_max_position_embeddings, target_length, source.served_length)
    return (*window_warnings(source), *shorter)
