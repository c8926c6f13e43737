"""Factors written into a loaded transformers model, in place.

Changing the model's config after loading changes neither its frequencies nor its attention factor: its rotary modules
hold both (:mod:`ropewalk.models.rotary`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from ropewalk.errors import UnsupportedRope
from ropewalk.models.layout import Layout, check_shape, probed_layout
from ropewalk.models.rotary import RotaryPart, rescaled_parts
from ropewalk.rope.config import RopeConfig, compute_inv_freq
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from workers.errors import ScorerUnavailable


@contextmanager
def _unavailable() -> Iterator[None]:
    """A module that cannot be written to is a model that cannot be scored."""
    try:
        yield
    except UnsupportedRope as error:
        raise ScorerUnavailable(str(error)) from error


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
        with _unavailable():
            for part in self._parts:
                check_shape(part, rope.place.table_pairs or rope.num_pairs)
                part.freeze()
        # A model that scales cos and sin by anything else would show it here, on factors that are nobody's default.
        probe = RescaleFactors(tuple(float(value) for value in np.linspace(1.0, 3.0, rope.num_pairs)))
        for scaling in (Scaling.identity(rope.num_pairs), Scaling(probe, 1.25)):
            self.write(scaling)
            with _unavailable():
                self._layouts = tuple(probed_layout(part, self._attention(scaling)) for part in self._parts)

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
