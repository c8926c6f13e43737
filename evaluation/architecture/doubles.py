"""Running a model's own code for its frequencies in float64.

transformers computes them in float32, whose rounding makes a ratio of two frequencies fall where the formula rises. The
formula itself is in no other place here: this runs the library's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_DIVISIONS = {torch.Tensor.div, torch.Tensor.__truediv__, torch.div, torch.true_divide}


class Doubles(TorchFunctionMode):
    """Inside, what asks torch for float32 gets float64, on the CPU."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Of every call into torch."""
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        if func in _DIVISIONS and isinstance(args[0], torch.Tensor) and not args[0].is_floating_point():
            args = (args[0].double(), *args[1:])  # whole numbers would become float32
        return func(*map(_double, args), **{name: _double(value) for name, value in (kwargs or {}).items()})


def _double(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value
