"""Factors written into a loaded transformers model, in place.

transformers keeps angles per position in the buffer ``inv_freq`` (n,) and the attention factor in the attribute
``attention_scaling`` of its rotary modules, and multiplies cos and sin by the latter. Changing the model's config after
loading changes neither.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from search_space.rescale_factors import RescaleFactors
from search_space.rope import RopeConfig, compute_inv_freq
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
        for module in self._modules:
            _check_shape(module, rope)
            _freeze(module)
        # A model that scales cos and sin by anything else would show it here, on factors that are nobody's default.
        probe = RescaleFactors(tuple(float(value) for value in np.linspace(1.0, 3.0, rope.num_pairs)))
        for factors, attention_factor in ((RescaleFactors.identity(rope.num_pairs), 1.0), (probe, 1.25)):
            self.write(factors=factors, attention_factor=attention_factor)
            for module in self._modules:
                _check_probe(module, compute_inv_freq(rope, factors), attention_factor)

    def write(self, *, factors: RescaleFactors, attention_factor: float) -> None:
        """Make every later forward pass rotate with `factors`, at every length.

        Angles are computed in float64 and rounded once, to the float32 that transformers multiplies positions with.

        Raises:
            InvalidRescaleFactors: not one factor per pair.
        """
        inv_freq = torch.from_numpy(compute_inv_freq(self._rope, factors)).to(torch.float32)
        for module in self._modules:
            for name in ("inv_freq", "original_inv_freq"):
                buffer = _tensor(module, name)
                if buffer is not None:
                    buffer.copy_(inv_freq)
            vars(module)["attention_scaling"] = attention_factor  # a plain attribute: no tensor, no module


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


def _check_probe(module: torch.nn.Module, inv_freq: NDArray[np.float64], attention_factor: float) -> None:
    angles = np.outer(_PROBE_POSITIONS, inv_freq)  # (positions, n)
    expected = np.stack((np.cos(angles), np.sin(angles))) * attention_factor
    actual = _cos_sin(module)
    if actual is None or actual.shape[-1] % len(inv_freq) or actual.shape[:2] != expected.shape[:2]:
        raise _unknown(module, "does not return cos and sin per position")
    repeats = actual.shape[-1] // len(inv_freq)
    end_to_end, interleaved = np.tile(expected, (1, 1, repeats)), np.repeat(expected, repeats, axis=-1)
    if not any(np.allclose(actual, layout, atol=_PROBE_TOLERANCE, rtol=0) for layout in (end_to_end, interleaved)):
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
