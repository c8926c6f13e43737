"""The optimisers that a training may choose, a row each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from finetune.extras import check_installed

if TYPE_CHECKING:  # whoever plans a training need not wait for it
    from torch import nn
    from torch.optim import Optimizer

OptimizerName = Literal["adamw", "adamw_8bit", "adafactor"]

_ADAMW_BETAS = (0.9, 0.95)  # as language models are usually trained
# Adafactor multiplies its rate by what is larger, this or the root mean square of a matrix. At 1, which is above that
# of nearly every one, the rate means what it means for AdamW: the root mean square of a step is about the rate.
_ADAFACTOR_SCALE = 1.0

Groups = list[dict[str, Any]]
"""Parameter groups, as torch's optimisers take them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerRow:
    """One of them.

    state_bytes: what it keeps of each weight of a matrix, beside what is the size of a vector.
    shards: whether it follows weights that are dealt out to several workers.
    package, extra: what it needs beside torch, and the extra of this project that installs it.
    """

    title: str
    state_bytes: float
    shards: bool
    make: Callable[[Groups, float], Optimizer]
    package: str | None = None
    extra: str = ""


def _adamw(groups: Groups, rate: float) -> Optimizer:
    from torch.optim import AdamW

    return AdamW(groups, lr=rate, betas=_ADAMW_BETAS)


def _adamw_8bit(groups: Groups, rate: float) -> Optimizer:
    """Both moments in eight bits, with a float32 scale for each block of 256 (Dettmers et al. 2022, arXiv 2110.02861);
    those of matrices with fewer than 4,096 weights, and of vectors, in float32."""
    # It warns that kernels for products of 4-bit weights are missing.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from bitsandbytes import optim

    optimizer: Optimizer = optim.AdamW8bit(groups, lr=rate, betas=_ADAMW_BETAS)  # type: ignore[attr-defined, no-untyped-call]
    return optimizer


def _adafactor(groups: Groups, rate: float) -> Optimizer:
    """Of a matrix the squared gradients' means of each row and each column, and no first moment (Shazeer and Stern
    2018, algorithm 4). Not applied: steps relative to the size of the weights, see `_ADAFACTOR_SCALE`.
    """
    from torch.optim import Adafactor

    return Adafactor(groups, lr=rate, eps=(None, _ADAFACTOR_SCALE))


OPTIMIZERS: Mapping[OptimizerName, OptimizerRow] = {
    "adamw": OptimizerRow(title="AdamW", state_bytes=8, shards=True, make=_adamw),
    "adamw_8bit": OptimizerRow(
        title="AdamW with moments in 8 bits",
        state_bytes=2 * (1 + 4 / 256),
        shards=False,
        make=_adamw_8bit,
        package="bitsandbytes",
        extra="8bit",
    ),
    "adafactor": OptimizerRow(title="Adafactor", state_bytes=0, shards=False, make=_adafactor),
}


def check_optimizer(name: OptimizerName) -> None:
    """Raise InvalidFinetuneSettings where an optimiser's package is not installed."""
    row = OPTIMIZERS[name]
    if row.package is not None:
        check_installed(row.package, extra=row.extra, wanted=f"optimizer={name!r}")


def make_optimizer(name: OptimizerName, model: nn.Module, *, rate: float, weight_decay: float) -> Optimizer:
    """Over all weights that are trained; vectors (norms, biases) are not decayed.

    Raises InvalidFinetuneSettings where its package is not installed.
    """
    check_optimizer(name)
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
