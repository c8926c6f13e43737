"""How many operations a forward pass takes, counted in the model's own code on the meta device.

Two short passes decide it: everything but attention grows with the tokens, and attention with their pairs.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from evaluation.architecture.config import said_by
from evaluation.architecture.layers import Layers
from evaluation.architecture.skeleton import decoder_layers
from ropewalk.errors import UnsupportedRope
from ropewalk.models.rotary import text_config

_TOKENS = (256, 512)  # multiples of the chunks in which linear attention works
_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardFlops:
    """Of one pass, a multiplication and an addition being two. Softmax, norms and rotation are not counted."""

    logits: float
    """Of one token; a scorer computes them for the answer alone."""
    per_token: float
    per_pair: tuple[tuple[float, int | None], ...]
    """(of attention for each pair of tokens, the window in which there are pairs), of layers together."""

    def of(self, tokens: int, *, logits: int = 1) -> float:
        """A causal pass over `tokens` tokens that wants the logits of some."""
        attention = sum(flops * _pairs(tokens, window) for flops, window in self.per_pair)
        return self.logits * logits + self.per_token * tokens + attention


def _pairs(tokens: int, window: int | None) -> float:
    """Of a token and one before it: half of the square, and less within a window."""
    seen = tokens if window is None else min(window, tokens)
    return seen * tokens - seen**2 / 2


def count_flops(model: nn.Module, layers: Layers) -> ForwardFlops:
    """Of a model on the meta device.

    Raises:
        UnsupportedRope: its code cannot run without weights, as where it looks at values to choose experts.
    """
    few, many = (_counted(model, tokens) for tokens in _TOKENS)
    polynomials = [_polynomial(few[i], many[i]) for i in range(len(decoder_layers(model)))]
    pairs: dict[int | None, float] = defaultdict(float)
    for (_, square), layer in zip_longest(polynomials, layers.all[: len(polynomials)]):
        pairs[None if layer is None else layer.window] += square
    rest_few, rest_many = (
        few[None] - sum(few[i] for i in few if i is not None),
        many[None] - sum(many[i] for i in many if i is not None),
    )
    outside = (rest_many - rest_few) / (_TOKENS[1] - _TOKENS[0])
    return ForwardFlops(
        logits=rest_few - outside * _TOKENS[0],
        per_token=outside + sum(linear for linear, _ in polynomials),
        per_pair=tuple((square, window) for window, square in pairs.items() if square),
    )


def _polynomial(few: int, many: int) -> tuple[float, float]:
    """(a, b) of a T + b T^2 through both counts."""
    a, b = _TOKENS
    square = (many / b - few / a) / (b - a)
    return few / a - square * a, square


def _counted(model: nn.Module, tokens: int) -> Mapping[int | None, int]:
    """By decoder layer; None has everything."""
    counter = FlopCounterMode(display=False)
    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    mask = torch.zeros(1, 1, tokens, tokens, device="meta")  # whole already: nothing is looked up in it
    try:
        with torch.no_grad(), counter:
            model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1)
    except Exception as error:  # whatever a model's own code raises without values
        raise UnsupportedRope(
            f"the model's code must run without weights to be counted, but {said_by(error)}"
        ) from error
    found: Counter[int | None] = Counter({None: counter.get_total_flops()})
    for index, flops in _by_layer(counter.get_flop_counts(), len(decoder_layers(model))):
        found[index] = max(found[index], flops)  # one path for each name that leads to a layer
    return found


def _by_layer(counts: Mapping[str, Mapping[object, int]], layers: int) -> Iterator[tuple[int, int]]:
    for name, operations in counts.items():
        match = _LAYER.search(name)
        if match is not None and int(match[1]) < layers:
            yield int(match[1]), sum(operations.values())


def guess_flops(model: nn.Module, layers: Layers) -> ForwardFlops:
    """Where the code cannot be counted: two operations for each weight of a matrix that a token meets, and four for
    each number of the attention's output and pair. Of experts a token meets as many as the config says.
    """
    config = text_config(model)
    experts = next((n for name in _EXPERTS if (n := getattr(config, name, None))), None)
    share = 1.0 if not experts else (getattr(config, "num_experts_per_tok", None) or 1) / experts
    embeddings = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    head = model.get_output_embeddings()  # type: ignore[operator]
    logits = 0.0 if head is None else 2.0 * head.weight.numel()
    weights = 0.0
    for name, part in model.named_parameters():
        if part.dim() < 2 or id(part) in embeddings or (head is not None and part is head.weight):
            continue
        weights += part.numel() * (share if "experts" in name and "shared" not in name else 1.0)
    pairs: dict[int | None, float] = defaultdict(float)
    for layer in layers.all:
        if layer.attends:
            pairs[layer.window] += 4 * config.num_attention_heads * _head_dim(config)
    return ForwardFlops(
        logits=logits, per_token=2.0 * weights, per_pair=tuple((flops, window) for window, flops in pairs.items())
    )


_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def _head_dim(config: Any) -> int:
    stated: int | None = getattr(config, "head_dim", None)
    return stated or int(config.hidden_size // config.num_attention_heads)
