"""Operations of a pass, against the formula that the GPU benchmarks state and against passes that are counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import forward_flops
from evaluation.architecture.config import load_config
from evaluation.architecture.flops import count_flops, guess_flops
from evaluation.architecture.layers import Layer, Layers
from evaluation.architecture.probing import probe_layers
from evaluation.architecture.reading import read_outline
from evaluation.architecture.skeleton import build_skeleton

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 160,
    "vocab_size": 500,
    "max_position_embeddings": 256,
}
GEMMA: dict[str, Any] = {
    **LLAMA,
    "model_type": "gemma3_text",
    "num_hidden_layers": 6,
    "head_dim": 32,
    "sliding_window": 128,
}
MIXTRAL: dict[str, Any] = {**LLAMA, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}


@pytest.mark.parametrize("tokens", [1, 1000, 8192, 131_072])
def test_llamas_operations_are_those_of_the_formula(tokens: int) -> None:
    flops = read_outline(LLAMA).flops
    logits = 2 * 64 * 500
    assert flops.of(tokens) == pytest.approx(forward_flops(load_config(LLAMA), tokens) + logits, rel=1e-12)
    assert flops.of(tokens, logits=7) - flops.of(tokens) == pytest.approx(6 * logits)


def test_layers_with_a_window_pay_for_what_they_see() -> None:
    flops = read_outline(GEMMA).flops
    by_window = {window: pair for pair, window in flops.per_pair}
    layers = read_outline(GEMMA).layers
    assert set(by_window) == {128, None}
    windowed = sum(layer.window is not None for layer in layers.all)
    assert by_window[128] == pytest.approx(4 * 4 * 32 * windowed)
    assert by_window[None] == pytest.approx(4 * 4 * 32 * (6 - windowed))
    growth = flops.of(20_000) - flops.of(10_000) - 10_000 * flops.per_token
    assert growth == pytest.approx(by_window[None] * (20_000**2 - 10_000**2) / 2 + by_window[128] * 128 * 10_000)


def test_a_third_length_lies_on_the_polynomial() -> None:
    model = build_skeleton(load_config(GEMMA))
    everything = Layers(tuple(Layer() for _ in range(6)))
    flops = count_flops(model, everything)
    counter, tokens = FlopCounterMode(display=False), 1024
    ids, mask = (
        torch.zeros(1, tokens, dtype=torch.long, device="meta"),
        torch.zeros(1, 1, tokens, tokens, device="meta"),
    )
    with torch.no_grad(), counter:
        model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1)
    whole = flops.of(tokens) + sum(pair for pair, _ in flops.per_pair) * tokens**2 / 2  # the half that is masked too
    assert whole == pytest.approx(counter.get_total_flops(), rel=1e-12)


@pytest.mark.parametrize("config", [LLAMA, GEMMA])
def test_a_guess_by_weights_is_close(config: dict[str, Any]) -> None:
    model = build_skeleton(load_config(config))
    layers = probe_layers(model)
    counted, guessed = count_flops(model, layers), guess_flops(model, layers)
    assert guessed.of(4096) == pytest.approx(counted.of(4096), rel=0.02)


def test_of_experts_a_token_pays_for_its_own() -> None:
    flops = read_outline(MIXTRAL).flops
    attention, expert, router = 2 * 64 * 64 + 2 * 64 * 32, 3 * 64 * 160, 64 * 8
    assert flops.per_token == pytest.approx(2 * 3 * (attention + 2 * expert + router), rel=0.02)
