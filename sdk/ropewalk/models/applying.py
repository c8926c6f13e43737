"""Factors in a loaded model, chosen anew in every forward pass: its own RoPE up to L, the long factors past it.

The longest position of a pass decides for all of its rows, as transformers' `longrope` does. What differs from an
exported checkpoint: within L the model is its own to the last bit, because the attention factor is switched as well.
"""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import nn

from ropewalk.errors import FactorsDoNotFit, UnsupportedRope
from ropewalk.factors.exports.hf import switch_length
from ropewalk.factors.factor_file import FactorFile
from ropewalk.factors.fitting import check_config
from ropewalk.models.layout import check_shape, probed_layout
from ropewalk.models.rotary import KeptPart, RotaryPart, rescaled_parts, text_config
from ropewalk.rope.config import RopeConfig, compute_inv_freq

Window = Literal["short", "long"]

_MARK = "ropewalk_applied"  # of a rotary module that has factors
_SAME = 1e-5  # of frequencies in float32
_COARSE = 1e-2  # of those that were cast with the model


class Applied:
    """Factors in one model, until :meth:`remove` or the end of a ``with`` block. Not for several threads at once.

    Raises:
        FactorsDoNotFit: they were found for another model, or the model has factors already; it is as it was.
        UnsupportedRope: the model's rotary modules are of no known kind; it is as it was.
    """

    def __init__(self, model: nn.Module, file: FactorFile) -> None:
        self._file = file
        self._parts = rescaled_parts(model)
        self._check(model)
        self._kept = [KeptPart.of(part) for part in self._parts]
        self._long = torch.from_numpy(compute_inv_freq(file.rope, file.scaling.factors)).to(torch.float32)
        self._window: dict[int, Window] = {}
        try:
            for kept in self._kept:
                self._write(kept, "long")
                probed_layout(kept.part, file.attention_factor)
        finally:
            self._restore()
        self._modules = {id(part.module): part.module for part in self._parts}
        self._hooks = [
            module.register_forward_pre_hook(self._choose, with_kwargs=True) for module in self._modules.values()
        ]
        for module in self._modules.values():
            vars(module)[_MARK] = self

    @property
    def original_length(self) -> int:
        """The last length at which the model is its own."""
        return switch_length(self._file)

    def remove(self) -> None:
        """Make the model what it was; once is enough."""
        for hook in self._hooks:
            hook.remove()
        if self._hooks:
            self._hooks = []
            self._restore()
            for module in self._modules.values():
                vars(module).pop(_MARK, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        state = "in the model" if self._hooks else "removed"
        return (
            f"<factors for {self._file.model.name}, {state}: its own RoPE up to {self.original_length} tokens, "
            f"the long factors up to {self._file.target_length}>"
        )

    # -- checks ------------------------------------------------------------------------------------------------------

    def _check(self, model: nn.Module) -> None:
        if not self._parts:
            raise UnsupportedRope(
                "a model must keep its RoPE frequencies in modules with an inv_freq buffer, "
                f"but got none in {type(model).__name__}"
            )
        if (there := applied_to(model)) is not None:
            raise FactorsDoNotFit(
                f"the model must be without factors, but has those for {there._file.target_length} tokens and would "
                f"get those for {self._file.target_length}: call remove() on them first"
            )
        check_config(self._file, text_config(model).to_dict())
        rope = self._file.rope
        for part in self._parts:
            if len(part.inv_freq) != (rope.place.table_pairs or rope.num_pairs):
                raise FactorsDoNotFit(
                    f"the factors must be one for each of the model's {len(part.inv_freq)} pairs, but the factor file "
                    f"has {rope.num_pairs}: give the model that they were found for, {self._file.model.name!r}"
                )
            check_shape(part, len(part.inv_freq))
            if part.rope_type != "longrope":  # of which check_config has compared both sets
                self._check_own(part, rope)

    def _check_own(self, part: RotaryPart, rope: RopeConfig) -> None:
        """The model's own frequencies and attention factor must be what the factors were found over."""
        expected = compute_inv_freq(rope)
        found = part.inv_freq.detach().double().cpu().numpy()[: len(expected)]
        tolerance = _SAME if part.inv_freq.dtype == torch.float32 else _COARSE
        if others := np.flatnonzero(~np.isclose(found, expected, rtol=tolerance, atol=0.0)).tolist():
            pair = others[0]
            raise FactorsDoNotFit(
                f"the model must turn as the one that the factors were found for, {self._file.model.name!r}, "
                f"{expected[pair]:.6g} radians per position at pair {pair}, but it turns {found[pair]:.6g}"
            )
        own = part.attention_scaling
        if own is None or abs(own / rope.attention_factor - 1.0) > _SAME:
            raise FactorsDoNotFit(
                f"the attention factor that the model comes with must be {rope.attention_factor:.6g}, as the factor "
                f"file says, but it is {own}"
            )

    # -- switching ---------------------------------------------------------------------------------------------------

    def _choose(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a rotary module's pass: write what the longest position asks for, where it is not there yet."""
        positions: torch.Tensor = kwargs["position_ids"] if "position_ids" in kwargs else args[1]
        longest = int(positions.max()) + 1
        window: Window = "long" if longest > self.original_length else "short"
        before = self._window.get(id(module))
        if window == before:
            return
        if window == "long" and before == "short" and int(positions.min()) > 0:
            warnings.warn(
                f"a text has grown past {self.original_length} tokens with a cache of keys that were turned within "
                "them: generate with ropewalk.generate, which reads it anew there",
                RuntimeWarning,
                stacklevel=2,
            )
        self._window[id(module)] = window
        for kept in self._kept:
            if kept.part.module is module:
                self._write(kept, window)

    def _write(self, kept: KeptPart, window: Window) -> None:
        if window == "short":
            kept.restore()
        else:
            kept.part.freeze()
            kept.part.write(self._long, self._file.attention_factor)

    def _restore(self) -> None:
        for kept in self._kept:
            kept.restore()


def applied_to(model: nn.Module) -> Applied | None:
    """The factors that are in a model; None where there are none."""
    marks = (vars(part.module).get(_MARK) for part in rescaled_parts(model))
    return next((mark for mark in marks if isinstance(mark, Applied)), None)
