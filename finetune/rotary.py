"""Switching a model between original RoPE and the long factors, one forward pass at a time.

Which RoPE a document sees while training is what the exported model will show it: transformers' `longrope` decides per
forward pass, by max(position_ids) + 1 > original_max_position_embeddings, and multiplies cos and sin by one
`attention_factor` A in *both* cases. So

    short  `short_factor` (all 1) and A: for A = 1 exactly the original RoPE; for A != 1 the short side learns to live
           with A, which is the price of one attention factor in the exported config
    long   `long_factor` and A

A forward pass that disagrees with the mode switched on is refused by a hook: never both in one forward.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from finetune.errors import MixedWindow, ModelNotTrainable
from search_space.rope.config import RopeConfig, compute_inv_freq
from search_space.rope.rescale_factors import RescaleFactors
from search_space.rope.scaling import Scaling

Window = Literal["short", "long"]
_SCALING = "attention_scaling"  # what transformers calls the attention factor of a rotary module


def rotary_modules(model: nn.Module) -> tuple[nn.Module, ...]:
    """Every module that holds rotary frequencies as transformers >= 5 names them (`inv_freq`, `attention_scaling`)."""
    found = [m for m in model.modules() if "inv_freq" in dict(m.named_buffers(recurse=False))]
    return tuple(m for m in found if hasattr(m, _SCALING))


class RotarySwitch:
    """Owns the rotary tables of one model. Not for several threads at once.

    Outside `window(...)` every forward pass is refused; `close()` puts the model's own table back.

    Raises ModelNotTrainable when the model has no rotary module, or one of another size than `rope` says;
    InvalidRescaleFactors when the factors do not fit `rope`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        rope: RopeConfig,
        short_factors: RescaleFactors,
        scaling: Scaling,
    ) -> None:
        self._modules = rotary_modules(model)
        self._original_length = rope.original_max_position_embeddings
        self._attention_factor = scaling.attention_factor
        self._window: Window | None = None
        self._check_sizes(model, rope)
        self._kept = [(inv_freq(module).clone(), _attention_scaling(module)) for module in self._modules]
        self._tables: dict[Window, torch.Tensor] = {
            "short": torch.from_numpy(compute_inv_freq(rope, short_factors)),
            "long": torch.from_numpy(compute_inv_freq(rope, scaling.factors)),
        }
        self._hooks = [m.register_forward_pre_hook(self._check_forward, with_kwargs=True) for m in self._modules]

    def _check_sizes(self, model: nn.Module, rope: RopeConfig) -> None:
        sizes = sorted({len(inv_freq(module)) for module in self._modules})
        if sizes != [rope.num_pairs]:
            raise ModelNotTrainable(
                f"the model must have rotary tables of {rope.num_pairs} pairs, but {type(model).__name__} has {sizes}"
            )

    @contextmanager
    def window(self, window: Window) -> Iterator[None]:
        """Within the block every forward pass uses this window's frequencies and the attention factor."""
        if self._window is not None:
            raise MixedWindow(f"the {self._window} window must be left before the {window} one is entered")
        self._window = window
        try:
            for module in self._modules:
                _write(module, self._tables[window], self._attention_factor)
            yield
        finally:
            self._window = None

    def close(self) -> None:
        """Remove the hooks and restore the frequencies and the scaling that the model came with."""
        for hook in self._hooks:
            hook.remove()
        for module, (table, scaling) in zip(self._modules, self._kept, strict=True):
            _write(module, table, scaling)

    def _check_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The mode must be the one that transformers would choose for these positions."""
        position_ids = kwargs["position_ids"] if "position_ids" in kwargs else args[1]
        length = int(position_ids.max()) + 1
        needed: Window = "long" if length > self._original_length else "short"
        if needed != self._window:
            raise MixedWindow(
                f"positions up to {length - 1} must be seen in the {needed} window (original length "
                f"{self._original_length}), but the window switched on is {self._window}"
            )


def inv_freq(module: nn.Module) -> torch.Tensor:
    """A rotary module's frequencies, radians per position, (n,)."""
    table = module.inv_freq
    assert isinstance(table, torch.Tensor)
    return table


def _attention_scaling(module: nn.Module) -> float:
    scaling = getattr(module, _SCALING)
    assert isinstance(scaling, float | int)
    return float(scaling)


def _write(module: nn.Module, table: torch.Tensor, attention_factor: float) -> None:
    """Overwrite one module's frequencies, computed in float64, in the type and on the device that it already has."""
    old = inv_freq(module)
    module.inv_freq = table.to(device=old.device, dtype=old.dtype).clone()
    setattr(module, _SCALING, attention_factor)  # not a tensor or a module, as nn.Module's stubs expect
