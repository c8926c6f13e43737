"""What windows of attention mean for an extension: how far a needle may lie, and whether rescaling can matter."""

from __future__ import annotations

from evaluation.models.source import ModelSource
from ropewalk.errors import UnsupportedRope


def check_reach(source: ModelSource, target_length: int) -> None:
    """Raise UnsupportedRope when no layer, nor all of them together, can carry a needle over `target_length` tokens.

    A score could then not depend on the needle: whatever stands farther back changes the logits by exactly nothing.
    """
    reach = None if source.layers is None else source.layers.reach
    if reach is None or target_length <= reach:
        return
    assert source.layers is not None  # it has a reach
    windows = sorted({layer.window for layer in source.layers.all if layer.window is not None})
    raise UnsupportedRope(
        f"target_length must be at most the {reach} tokens that the model's {len(source.layers.all)} layers can reach "
        f"back with windows of {', '.join(map(str, windows))} tokens, but got target_length={target_length}: "
        "what stands farther back cannot change an answer"
    )


def window_warnings(source: ModelSource) -> tuple[str, ...]:
    """What a user must know before extending a model whose rotary layers do not see far; empty for most."""
    window = None if source.layers is None else source.layers.rotary_window
    length = source.rope.original_max_position_embeddings
    if window is None or source.layers is None:
        return ()
    whole = any(layer.window is None for layer in source.layers.all)
    rest = "; layers that see farther have no positions to rescale" if whole else ""
    return (
        f"the layers that rotate see at most {window} tokens back, with an original length of {length}{rest}: "
        "they meet no distance beyond the window at any length, so rescale factors can change little for the better",
    )
