"""How a rotary module lays out its pairs, found by asking it: and whether it uses what was written into it at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ropewalk.errors import UnsupportedRope
from ropewalk.models.rotary import RotaryPart

# (..., pairs) to (..., width): the pairs, laid out as a rotary module lays out cos and sin.
Layout = Callable[[torch.Tensor, int], torch.Tensor]

# float32 angles at the probed positions are good to about 1e-6 rad; a module that ignores what was written is off by 1.
_PROBE_POSITIONS = (0, 1, 7)
_PROBE_TOLERANCE = 1e-4


def probed_layout(part: RotaryPart, attention_factor: float) -> Layout:
    """The layout of a module that `part.write` has written this attention factor into, and factors of nobody's own.

    Raises:
        UnsupportedRope: it does not rotate by what was written. The message names the class.
    """
    inv_freq = part.inv_freq.double().cpu().numpy()
    angles = np.outer(_PROBE_POSITIONS, inv_freq)  # (positions, pairs)
    expected = np.stack((np.cos(angles), np.sin(angles))) * attention_factor
    actual = _cos_sin(part)
    if actual is None or actual.shape[-1] % len(inv_freq) or actual.shape[:2] != expected.shape[:2]:
        raise _unknown(part, "does not return cos and sin per position")
    for layout in (_end_to_end, _interleaved):
        laid_out = layout(torch.from_numpy(expected), actual.shape[-1]).numpy()
        if np.allclose(actual, laid_out, atol=_PROBE_TOLERANCE, rtol=0):
            return layout
    raise _unknown(part, "does not rotate by the inv_freq and attention_scaling written into it")


def check_shape(part: RotaryPart, pairs: int) -> None:
    """Raise UnsupportedRope unless the module has `pairs` frequencies and a number that cos and sin are scaled by."""
    if tuple(part.inv_freq.shape) != (pairs,) or part.attention_scaling is None:
        raise UnsupportedRope(
            f"a rotary module must have an inv_freq of shape ({pairs},) and a number attention_scaling, "
            f"but got {type(part.module).__name__} with inv_freq of shape {tuple(part.inv_freq.shape)}, "
            f"attention_scaling={part.attention_scaling!r}"
        )


def _end_to_end(pairs: torch.Tensor, width: int) -> torch.Tensor:
    return torch.cat([pairs] * (width // pairs.shape[-1]), dim=-1)


def _interleaved(pairs: torch.Tensor, width: int) -> torch.Tensor:
    return pairs.repeat_interleave(width // pairs.shape[-1], dim=-1)


def _cos_sin(part: RotaryPart) -> NDArray[np.float64] | None:
    """cos and sin at the probed positions, shape (2, positions, width); None if the module speaks another language."""
    device = part.inv_freq.device
    positions = torch.tensor([_PROBE_POSITIONS], device=device)
    hidden = torch.zeros((1, len(_PROBE_POSITIONS), 1), dtype=torch.float32, device=device)
    for asked in (positions, positions.expand(3, *positions.shape)):  # or one axis each for time, height and width
        try:
            result = part.forward(hidden, asked)
        except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError):
            continue
        if (found := _as_cos_sin(result)) is not None:
            return found
    return None


def _as_cos_sin(result: Any) -> NDArray[np.float64] | None:
    """cos and sin of the first row, from either a pair of tensors or one of complex numbers."""
    if isinstance(result, torch.Tensor) and result.is_complex():
        result = (result.real, result.imag)
    if not (isinstance(result, tuple) and len(result) == 2 and all(isinstance(one, torch.Tensor) for one in result)):
        return None
    if any(one.ndim < 3 for one in result):
        return None
    cos, sin = (one.detach().cpu().double().flatten(0, -3)[0].numpy() for one in result)
    return np.stack((cos, sin)) if cos.shape == sin.shape else None


def _unknown(part: RotaryPart, what: str) -> UnsupportedRope:
    return UnsupportedRope(f"a rotary module must be of a known kind, but {type(part.module).__name__} {what}")
