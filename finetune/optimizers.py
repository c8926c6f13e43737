"""The optimisers that a training may choose, a row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # whoever plans a training need not wait for it
    from torch import nn
    from torch.optim import Optimizer

OptimizerName = Literal["adamw", "adafactor"]

_ADAMW_BETAS = (0.9, 0.95)  # as language models are usually trained
# Adafactor multiplies its rate by what is larger, this or the root mean square of a matrix. At 1, which is above that
# of nearly every one, the rate means what it means for AdamW: the root mean square of a step is about the rate.
_ADAFACTOR_SCALE = 1.0

Groups = list[dict[str, Any]]
"""Parameter groups, as torch's optimisers take them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerRow:
    """One of them.

    numbers: float32 ones that it keeps of each weight, beside what is the size of a vector.
    shards: whether it follows weights that are dealt out to several workers.
    """

    title: str
    numbers: int
    shards: bool
    make: Callable[[Groups, float], Optimizer]


def _adamw(groups: Groups, rate: float) -> Optimizer:
    from torch.optim import AdamW

    return AdamW(groups, lr=rate, betas=_ADAMW_BETAS)


def _adafactor(groups: Groups, rate: float) -> Optimizer:
    """Of a matrix the squared gradients' means of each row and each column, and no first moment (Shazeer and Stern
    2018, algorithm 4). Not applied: steps relative to the size of the weights, see `_ADAFACTOR_SCALE`.
    """
    from torch.optim import Adafactor

    return Adafactor(groups, lr=rate, eps=(None, _ADAFACTOR_SCALE))


OPTIMIZERS: Mapping[OptimizerName, OptimizerRow] = {
    "adamw": OptimizerRow(title="AdamW", numbers=2, shards=True, make=_adamw),
    "adafactor": OptimizerRow(title="Adafactor", numbers=0, shards=False, make=_adafactor),
}


def make_optimizer(name: OptimizerName, model: nn.Module, *, rate: float, weight_decay: float) -> Optimizer:
    """Over all weights that are trained; vectors (norms, biases) are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return OPTIMIZERS[name].make(groups, rate)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """For all weights, at the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
