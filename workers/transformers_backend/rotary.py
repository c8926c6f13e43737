"""Factors written into a loaded transformers model, in place.

Changing the model's config after loading changes neither its frequencies nor its attention factor: its rotary modules
hold both (:mod:`ropewalk.models.rotary`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ropewalk.models.rotary import RotaryPart, rescaled_parts
from ropewalk.rope.config import RopeConfig, compute_inv_freq
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from workers.errors import ScorerUnavailable

# float32 angles at the probed positions are good to about 1e-6 rad; a module that ignores what was written is off by 1.
_PROBE_POSITIONS = (0, 1, 7)
_PROBE_TOLERANCE = 1e-4


class RotaryTable:
    """The rotary modules of one model, behind one switch.

    Holds references to the modules, never a copy of the model. Not thread-safe.

    Raises:
        ScorerUnavailable: the model has no rotary module, one of an unknown shape, or one that does not use what is
            written into it. The message names the class: a model is refused rather than scored wrongly.
    """

    def __init__(self, model: torch.nn.Module, rope: RopeConfig) -> None:
        self._rope = rope
        self._parts = rescaled_parts(model)
        self._layouts: tuple[Layout, ...] = ()
        if not self._parts:
            raise ScorerUnavailable(
                "a model must keep its RoPE frequencies in modules with an inv_freq buffer, "
                f"but got none in {type(model).__name__}"
            )
        for part in self._parts:
            _check_shape(part, rope)
            part.freeze()
        # A model that scales cos and sin by anything else would show it here, on factors that are nobody's default.
        probe = RescaleFactors(tuple(float(value) for value in np.linspace(1.0, 3.0, rope.num_pairs)))
        for scaling in (Scaling.identity(rope.num_pairs), Scaling(probe, 1.25)):
            self.write(scaling)
            self._layouts = tuple(
                _probed_layout(part, part.inv_freq.double().cpu().numpy(), self._attention(scaling))
                for part in self._parts
            )

    def write(self, scaling: Scaling) -> None:
        """Make every later forward pass rotate with `scaling`, at every length.

        Angles are computed in float64 and rounded once, to the float32 that transformers multiplies positions with.

        Raises:
            InvalidRescaleFactors: not one factor per pair.
        """
        inv_freq = torch.from_numpy(compute_inv_freq(self._rope, scaling.factors)).to(torch.float32)
        for part in self._parts:
            part.write(inv_freq, self._attention(scaling))

    def _attention(self, scaling: Scaling) -> float:
        return self._rope.attention_factor * scaling.attention_factor

    @contextmanager
    def differentiable(self, *, rows: int) -> Iterator[torch.Tensor]:
        """Zeros of shape (rows, n + 1) to differentiate by: what ln lambda_i and ln A of each row could have added.

        Inside, every forward pass of `rows` rows (and its backward pass) depends on them, with the bits of the factors
        last written. Afterwards nothing of it is left in the model.
        """
        device = self._parts[0].inv_freq.device
        shifts = torch.zeros(rows, self._rope.num_pairs + 1, device=device, requires_grad=True)
        hooks = [
            part.module.register_forward_hook(partial(_shifted, part, layout, shifts), with_kwargs=True)
            for part, layout in zip(self._parts, self._layouts, strict=True)
        ]
        try:
            yield shifts
        finally:
            for hook in hooks:
                hook.remove()


# (..., pairs) to (..., width): the pairs, laid out as a rotary module lays out cos and sin.
Layout = Callable[[torch.Tensor, int], torch.Tensor]


def _end_to_end(pairs: torch.Tensor, width: int) -> torch.Tensor:
    return torch.cat([pairs] * (width // pairs.shape[-1]), dim=-1)


def _interleaved(pairs: torch.Tensor, width: int) -> torch.Tensor:
    return pairs.repeat_interleave(width // pairs.shape[-1], dim=-1)


def _shifted(
    part: RotaryPart,
    layout: Layout,
    shifts: torch.Tensor,
    module: torch.nn.Module,
    arguments: tuple[Any, ...],
    named: dict[str, Any],
    output: Any,
) -> Any:
    """cos and sin, (rows, tokens, width), as functions of `shifts` to the first order, which is all a gradient needs.

    transformers computes them without a graph. The angle t = position / (lambda * ...) has dt / d ln lambda = -t, so
    A cos t has the derivatives A t sin t and A cos t, and A sin t has -A t cos t and A sin t; the complex A e^(it) has
    -i t A e^(it) and A e^(it). At shifts of 0 the values are those of the module, to the last bit. Positions count from
    0, or are those that the model was given.
    """
    if part.layer_type not in (None, *arguments, *named.values()):
        return output  # of layers of another type
    first = output if isinstance(output, torch.Tensor) else output[0]
    width = first.shape[-1]
    positions: torch.Tensor = named["position_ids"] if "position_ids" in named else arguments[1]
    positions = positions.reshape(-1, *positions.shape[-2:])[0]  # of several axes, which are equal in text, the first
    angles = layout(positions[..., None] * part.inv_freq, width)  # (1 or rows, tokens, width)
    turning = _padded(shifts[:, None, :-1], len(part.inv_freq))
    turn = layout(turning, width) * angles  # (rows, tokens, width)
    growth = 1.0 + shifts[:, None, -1:]  # (rows, 1, 1)
    if isinstance(output, torch.Tensor):
        return (output * growth - 1j * output * turn).to(output.dtype)
    cos, sin = output
    return (cos * growth + sin * turn).to(cos.dtype), (sin * growth - cos * turn).to(sin.dtype)


def _padded(pairs: torch.Tensor, width: int) -> torch.Tensor:
    """With zeros for the pairs of a table that do not turn."""
    return torch.nn.functional.pad(pairs, (0, width - pairs.shape[-1]))


def _check_shape(part: RotaryPart, rope: RopeConfig) -> None:
    pairs = rope.place.table_pairs or rope.num_pairs
    if tuple(part.inv_freq.shape) != (pairs,) or part.attention_scaling is None:
        raise ScorerUnavailable(
            f"a rotary module must have an inv_freq of shape ({pairs},) and a number attention_scaling, "
            f"but got {type(part.module).__name__} with inv_freq of shape {tuple(part.inv_freq.shape)}, "
            f"attention_scaling={part.attention_scaling!r}"
        )


def _probed_layout(part: RotaryPart, inv_freq: NDArray[np.float64], attention_factor: float) -> Layout:
    """How the module lays out its pairs; ScorerUnavailable when it does not rotate by what was written into it."""
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


def _unknown(part: RotaryPart, what: str) -> ScorerUnavailable:
    return ScorerUnavailable(f"a rotary module must be of a known kind, but {type(part.module).__name__} {what}")
