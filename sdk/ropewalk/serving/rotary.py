"""The rotary lookup: rows of the short and of the long factors are in one table, and each token has its offset into it.

An offset belongs to the lookup and not to positions, because vLLM computes from positions also where a token's keys are
kept. The offsets are one buffer for the life of the engine: compiled code and CUDA graphs read it where it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from vllm.model_executor.layers.rotary_embedding.phi3_long_rope_scaled_rope import Phi3LongRoPEScaledRotaryEmbedding
from vllm.utils.torch_utils import async_tensor_h2d

from ropewalk.errors import NotServed
from ropewalk.serving.plan import ServingPlan

_OFFSETS = "ropewalk_offsets"


class SwitchedRotaryEmbedding(Phi3LongRoPEScaledRotaryEmbedding):  # type: ignore[misc]
    """vLLM's module for longrope, told for each token which of its rows to take."""

    def forward(
        self, positions: torch.Tensor, query: torch.Tensor, key: torch.Tensor | None = None, offsets: Any = None
    ) -> Any:
        """See vLLM's."""
        return super().forward(positions, query, key, self.ropewalk_offsets[: positions.shape[0]])


class Offsets:
    """Of the tokens of a step, in rows of the rotary table: 0 for short requests, L for long ones.

    Raises:
        NotServed: the model does not rotate by vLLM's module for longrope.
    """

    def __init__(self, model: torch.nn.Module, plan: ServingPlan, *, tokens: int, device: torch.device) -> None:
        self._step = plan.original_length
        self._buffer = torch.zeros(tokens, dtype=torch.int64, device=device)
        self._everywhere: int | None = 0  # the value that the whole buffer has, where it has one
        modules = _modules(model)
        for module in modules:
            _check_lengths(module, plan)
        for module in modules:
            _switch(module, plan, self._buffer)

    def place(self, requests: Sequence[str], tokens: Sequence[int], long: Collection[str]) -> None:
        """Write those of a step with `tokens[i]` tokens of `requests[i]`."""
        offsets = [self._step if name in long else 0 for name in requests]
        values = set(offsets)
        if len(values) == 1:
            value = values.pop()
            if value != self._everywhere:
                self._buffer.fill_(value)
                self._everywhere = value
            return
        self._everywhere = None
        each = np.repeat(np.asarray(offsets, dtype=np.int64), tokens)
        async_tensor_h2d(each, out=self._buffer[: len(each)])


def _modules(model: torch.nn.Module) -> list[Any]:
    found = [one for one in model.modules() if type(one) is Phi3LongRoPEScaledRotaryEmbedding]
    if not found:
        rotary = sorted({type(one).__name__ for one in model.modules() if "rotary" in type(one).__name__.lower()})
        raise NotServed(
            f"a model with a switch must rotate by vLLM's {Phi3LongRoPEScaledRotaryEmbedding.__name__}, but "
            f"{type(model).__name__} has {', '.join(rotary) or 'no rotary module'}"
        )
    return found


def _check_lengths(module: Any, plan: ServingPlan) -> None:
    lengths = (module.original_max_position_embeddings, module.max_position_embeddings)
    if lengths != (plan.original_length, plan.target_length):
        raise NotServed(
            f"a rotary module must be of {plan.original_length} and {plan.target_length} tokens, as the config says, "
            f"but is of {lengths[0]} and {lengths[1]}"
        )


def _switch(module: Any, plan: ServingPlan, offsets: torch.Tensor) -> None:
    table = module.long_short_cos_sin_cache
    short = module._compute_cos_sin_cache(plan.original_length, module.short_factor, plan.short_mscale)
    with torch.inference_mode():
        table[: plan.original_length].copy_(short)
    module.use_long_rope = False  # which would add L to every position
    module.register_buffer(_OFFSETS, offsets, persistent=False)
    module.__class__ = SwitchedRotaryEmbedding
