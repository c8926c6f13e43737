"""Factors written into a loaded transformers model, in place.

transformers keeps angles per position in the buffer ``inv_freq`` (n,) and the attention factor in the attribute
``attention_scaling`` of its rotary modules, and multiplies cos and sin by the latter. Changing the model's config after
loading changes neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from search_space.rope.config import RopeConfig, compute_inv_freq
from search_space.rope.rescale_factors import RescaleFactors
from search_space.rope.scaling import Scaling
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
        self._modules = _rotary_modules(model)
        self._layouts: tuple[Layout, ...] = ()
        for module in self._modules:
            _check_shape(module, rope)
            _freeze(module)
        # A model that scales cos and sin by anything else would show it here, on factors that are nobody's default.
        probe = RescaleFactors(tuple(float(value) for value in np.linspace(1.0, 3.0, rope.num_pairs)))
        for scaling in (Scaling.identity(rope.num_pairs), Scaling(probe, 1.25)):
            self.write(scaling)
            inv_freq = compute_inv_freq(rope, scaling.factors)
            self._layouts = tuple(
                _probed_layout(module, inv_freq, scaling.attention_factor) for module in self._modules
            )

    def write(self, scaling: Scaling) -> None:
        """Make every later forward pass rotate with `scaling`, at every length.

        Angles are computed in float64 and rounded once, to the float32 that transformers multiplies positions with.

        Raises:
            InvalidRescaleFactors: not one factor per pair.
        """
        inv_freq = torch.from_numpy(compute_inv_freq(self._rope, scaling.factors)).to(torch.float32)
        for module in self._modules:
            for name in ("inv_freq", "original_inv_freq"):
                buffer = _tensor(module, name)
                if buffer is not None:
                    buffer.copy_(inv_freq)
            vars(module)["attention_scaling"] = scaling.attention_factor  # a plain attribute: no tensor, no module

    @contextmanager
    def differentiable(self, *, rows: int) -> Iterator[torch.Tensor]:
        """Zeros of shape (rows, n + 1) to differentiate by: what ln lambda_i and ln A of each row could have added.

        Inside, every forward pass of `rows` rows (and its backward pass) depends on them, with the bits of the factors
        last written. Afterwards nothing of it is left in the model.
        """
        device = next(self._modules[0].buffers()).device
        shifts = torch.zeros(rows, self._rope.num_pairs + 1, device=device, requires_grad=True)
        hooks = [
            module.register_forward_hook(partial(_shifted, layout, shifts))
            for module, layout in zip(self._modules, self._layouts, strict=True)
        ]
        try:
            yield shifts
        finally:
            for hook in hooks:
                hook.remove()


# (..., n) to (..., width): the pairs, laid out as a rotary module lays out cos and sin.
Layout = Callable[[torch.Tensor, int], torch.Tensor]


def _end_to_end(pairs: torch.Tensor, width: int) -> torch.Tensor:
    return torch.cat([pairs] * (width // pairs.shape[-1]), dim=-1)


def _interleaved(pairs: torch.Tensor, width: int) -> torch.Tensor:
    return pairs.repeat_interleave(width // pairs.shape[-1], dim=-1)


def _shifted(
    layout: Layout,
    shifts: torch.Tensor,
    module: torch.nn.Module,
    _arguments: object,
    output: tuple[torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, (rows, tokens, width), as functions of `shifts` to the first order, which is all a gradient needs.

    transformers computes them without a graph. The angle t = position / (lambda * ...) has dt / d ln lambda = -t, so
    A cos t has the derivatives A t sin t and A cos t, and A sin t has -A t cos t and A sin t. At shifts of 0 the values
    are those of the module, to the last bit. Positions count from 0, as in every document.
    """
    cos, sin = output  # (1 or rows, tokens, width)
    tokens, width = cos.shape[-2:]
    inv_freq = _tensor(module, "inv_freq")
    assert inv_freq is not None
    angles = layout(torch.arange(tokens, device=cos.device)[:, None] * inv_freq, width)  # (tokens, width)
    turn = layout(shifts[:, None, :-1], width) * angles  # (rows, tokens, width)
    growth = 1.0 + shifts[:, None, -1:]  # (rows, 1, 1)
    shifted = (cos * growth + sin * turn, sin * growth - cos * turn)
    return shifted[0].to(cos.dtype), shifted[1].to(sin.dtype)


def _rotary_modules(model: torch.nn.Module) -> Sequence[torch.nn.Module]:
    found = [module for module in model.modules() if _tensor(module, "inv_freq") is not None]
    if not found:
        raise ScorerUnavailable(
            "a model must keep its RoPE frequencies in modules with an inv_freq buffer, "
            f"but got none in {type(model).__name__}"
        )
    return found


def _tensor(module: torch.nn.Module, name: str) -> torch.Tensor | None:
    value = getattr(module, name, None)
    return value if isinstance(value, torch.Tensor) else None


def _check_shape(module: torch.nn.Module, rope: RopeConfig) -> None:
    inv_freq = _tensor(module, "inv_freq")
    shape = None if inv_freq is None else tuple(inv_freq.shape)
    known = isinstance(getattr(module, "attention_scaling", None), float | int)
    if shape != (rope.num_pairs,) or not known:
        raise ScorerUnavailable(
            f"a rotary module must have an inv_freq of shape ({rope.num_pairs},) and a number attention_scaling, "
            f"but got {type(module).__name__} with inv_freq of shape {shape}, "
            f"attention_scaling={getattr(module, 'attention_scaling', None)!r}"
        )


def _freeze(module: torch.nn.Module) -> None:
    """Keep transformers from putting other frequencies in: its forward pass rewrites them for dynamic types only.

    The wrapper around a rotary forward pass reads the module's own `rope_type`: "longrope" swaps in the config's short
    or long factors by length, "dynamic" recomputes, "default" leaves everything alone.
    """
    vars(module)["rope_type"] = "default"
    for name in ("inv_freq", "original_inv_freq"):
        buffer = _tensor(module, name)
        if buffer is not None and buffer.dtype != torch.float32:  # a model cast as a whole: bfloat16 angles are useless
            setattr(module, name, buffer.to(torch.float32))


def _probed_layout(module: torch.nn.Module, inv_freq: NDArray[np.float64], attention_factor: float) -> Layout:
    """How the module lays out its pairs; ScorerUnavailable when it does not rotate by what was written into it."""
    angles = np.outer(_PROBE_POSITIONS, inv_freq)  # (positions, n)
    expected = np.stack((np.cos(angles), np.sin(angles))) * attention_factor
    actual = _cos_sin(module)
    if actual is None or actual.shape[-1] % len(inv_freq) or actual.shape[:2] != expected.shape[:2]:
        raise _unknown(module, "does not return cos and sin per position")
    for layout in (_end_to_end, _interleaved):
        laid_out = layout(torch.from_numpy(expected), actual.shape[-1]).numpy()
        if np.allclose(actual, laid_out, atol=_PROBE_TOLERANCE, rtol=0):
            return layout
    raise _unknown(module, "does not rotate by the inv_freq and attention_scaling written into it")


def _cos_sin(module: torch.nn.Module) -> NDArray[np.float64] | None:
    """cos and sin at the probed positions, shape (2, positions, width); None if the module speaks another language."""
    inv_freq = _tensor(module, "inv_freq")
    if inv_freq is None:
        return None
    positions = torch.tensor([_PROBE_POSITIONS], device=inv_freq.device)
    hidden = torch.zeros((1, len(_PROBE_POSITIONS), 1), dtype=torch.float32, device=inv_freq.device)
    try:
        result = module(hidden, positions)
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError):
        return None
    if not (isinstance(result, tuple) and len(result) == 2 and all(isinstance(part, torch.Tensor) for part in result)):
        return None
    cos, sin = (part.detach().cpu().double().numpy()[0] for part in result)
    return np.stack((cos, sin)) if cos.shape == sin.shape else None


def _unknown(module: torch.nn.Module, what: str) -> ScorerUnavailable:
    return ScorerUnavailable(f"a rotary module must be of a known kind, but {type(module).__name__} {what}")
