"""Switching a model between original RoPE and the long factors, one forward pass at a time.

Which RoPE a document sees while training is what the exported model will show it: transformers' `longrope` decides per
forward pass, by max(position_ids) + 1 > original_max_position_embeddings, and multiplies cos and sin by one
`attention_factor` in *both* cases. So, over the scaling that the model comes with (lambda0 and A0)

    short  lambda0 and A0 * A: for A = 1 exactly the published RoPE; for A != 1 the short side learns to live with A,
           which is the price of one attention factor in the exported config
    long   lambda0 * lambda and A0 * A

A forward pass that disagrees with the mode switched on is refused by a hook: never both in one forward.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from finetune.errors import MixedWindow, ModelNotTrainable
from ropewalk.models.rotary import rescaled_parts
from ropewalk.rope.config import RopeConfig, compute_inv_freq
from ropewalk.rope.scaling import Scaling

Window = Literal["short", "long"]


class RotarySwitch:
    """Owns the rotary tables of one model. Not for several threads at once.

    Outside `window(...)` every forward pass is refused; `close()` puts the model's own table back.

    `switch_length`: the last length of the short window, where it is not L.

    Raises ModelNotTrainable when the model has no rotary module, or one of another size than `rope` says;
    InvalidRescaleFactors when the factors do not fit `rope`.
    """

    def __init__(
        self, model: nn.Module, *, rope: RopeConfig, scaling: Scaling, switch_length: int | None = None
    ) -> None:
        self._parts = rescaled_parts(model)
        self._original_length = switch_length or rope.original_max_position_embeddings
        self._attention_factor = rope.attention_factor * scaling.attention_factor
        self._window: Window | None = None
        self._check_sizes(model, rope)
        self._kept = [(part.inv_freq.clone(), part.attention_scaling) for part in self._parts]
        for part in self._parts:
            part.freeze()
        self._tables: dict[Window, torch.Tensor] = {
            "short": torch.from_numpy(compute_inv_freq(rope)),
            "long": torch.from_numpy(compute_inv_freq(rope, scaling.factors)),
        }
        modules = {id(part.module): part.module for part in self._parts}.values()
        self._hooks = [m.register_forward_pre_hook(self._check_forward, with_kwargs=True) for m in modules]

    def _check_sizes(self, model: nn.Module, rope: RopeConfig) -> None:
        sizes = sorted({len(part.inv_freq) for part in self._parts})
        if sizes != [rope.place.table_pairs or rope.num_pairs]:
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
            for part in self._parts:
                part.write(self._tables[window], self._attention_factor)
            yield
        finally:
            self._window = None

    def close(self) -> None:
        """Remove the hooks and restore the frequencies and the scaling that the model came with."""
        for hook in self._hooks:
            hook.remove()
        for part, (table, scaling) in zip(self._parts, self._kept, strict=True):
            part.write(table, scaling if scaling is not None else 1.0)

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
