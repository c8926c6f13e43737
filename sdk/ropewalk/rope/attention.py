"""The attention factor: one number that multiplies cos and sin, so that logits change by its square.

Nothing here is applied to frequencies; both rules look at the lengths only, never at the rescale factors.
"""

from __future__ import annotations

import math

from ropewalk.errors import InvalidTargetLength


def yarn_attention_factor(scale: float) -> float:
    """YaRN (arXiv 2309.00071) section 3.4: 0.1 ln(s) + 1, and 1 for s <= 1.

    Raises:
        InvalidTargetLength: `scale` is not a finite positive number.
    """
    _check_scale(scale)
    return 1.0 if scale <= 1.0 else 0.1 * math.log(scale) + 1.0


def longrope_attention_factor(scale: float, original_length: int) -> float:
    """LongRoPE's rule (called "su" in its code, transformers' default): sqrt(1 + ln s / ln L), and 1 for s <= 1.

    Raises:
        InvalidTargetLength: `scale` is not a finite positive number, or `original_length` is below 2 (ln L = 0).
    """
    _check_scale(scale)
    if scale <= 1.0:
        return 1.0
    if original_length < 2:
        raise InvalidTargetLength(f"original_length must be at least 2, but got original_length={original_length}")
    return math.sqrt(1.0 + math.log(scale) / math.log(original_length))


def _check_scale(scale: float) -> None:
    if not (math.isfinite(scale) and scale > 0):
        raise InvalidTargetLength(f"scale must be finite and positive, but got scale={scale!r}")
