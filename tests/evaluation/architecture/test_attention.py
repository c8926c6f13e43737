"""Attention within windows, in blocks, against one matrix of everything with everything."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from evaluation.architecture import attention
from evaluation.architecture.attention import document_attention
from tests.helpers.largest_tensor import LargestTensor

WIDTH = 8  # numbers per head
CLOSE = 1e-5  # where weights are of float32


def _states(heads: int, groups: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(tokens)

    def states(count: int) -> torch.Tensor:
        return torch.randn(2, count, tokens, WIDTH, generator=generator, dtype=torch.float64).requires_grad_()

    return states(heads * groups), states(heads), states(heads)


def _module(groups: int) -> nn.Module:
    module = nn.Module()
    module.num_key_value_groups = groups  # type: ignore[assignment]
    return module


def _all_at_once(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int) -> torch.Tensor:
    """softmax(q k^T / sqrt(D)) v over the last `window` tokens, the own one among them."""
    key, value = (states.repeat_interleave(query.shape[1] // states.shape[1], dim=1) for states in (key, value))
    at = torch.arange(query.shape[2])
    distance = at[:, None] - at[None, :]
    weights = (query @ key.transpose(-1, -2)) / WIDTH**0.5
    weights = weights.masked_fill((distance < 0) | (distance >= window), -torch.inf).softmax(dim=-1)
    attended: torch.Tensor = (weights @ value).transpose(1, 2)
    return attended


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 90),
    window=st.integers(1, 100),
    block=st.integers(1, 40),
    heads=st.integers(1, 2),
    groups=st.integers(1, 3),
)
def test_blocks_of_a_window_are_the_whole(tokens: int, window: int, block: int, heads: int, groups: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_BLOCK", block)
        states = _states(heads, groups, tokens)
        found, _ = document_attention(_module(groups), *states, None, sliding_window=window)
        expected = _all_at_once(*states, window)
        torch.testing.assert_close(found, expected)
        direction = torch.randn_like(expected)
        gradients = torch.autograd.grad((found * direction).sum(), states)
        torch.testing.assert_close(gradients, torch.autograd.grad((expected * direction).sum(), states))


def _capped(
    states: tuple[torch.Tensor, torch.Tensor, torch.Tensor], window: int, cap: float | None, sinks: torch.Tensor
) -> torch.Tensor:
    """One query after the other: exp(capped logit) of each key it sees, over their sum and the sink's."""
    query, key, value = states
    key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], dim=1) for one in (key, value))
    rows = []
    for at in range(query.shape[2]):
        seen = slice(max(0, at - window + 1), at + 1)
        logits = (query[:, :, at, None] * key[:, :, seen]).sum(dim=-1) / WIDTH**0.5
        powers = (logits if cap is None else cap * torch.tanh(logits / cap)).exp()
        weights = powers / (powers.sum(dim=-1, keepdim=True) + sinks.exp()[None, :, None])
        rows.append((weights[..., None] * value[:, :, seen]).sum(dim=2))
    return torch.stack(rows, dim=1)


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(1, 40),
    window=st.none() | st.integers(1, 50),
    block=st.integers(1, 40),
    groups=st.integers(1, 2),
    cap=st.none() | st.floats(0.5, 5.0),
    sunk=st.booleans(),
)
def test_caps_and_sinks_are_what_they_say(
    tokens: int, window: int | None, block: int, groups: int, cap: float | None, sunk: bool
) -> None:
    assume(cap is not None or sunk)
    states = _states(1, groups, tokens)
    sinks = torch.linspace(-1, 1, groups, dtype=torch.float64, requires_grad=True)
    options: dict[str, Any] = {"softcap": cap, "s_aux": sinks if sunk else None, "sliding_window": window}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_BLOCK", block)
        found, _ = document_attention(_module(groups), *states, None, **options)
        nothing = torch.full_like(sinks, -torch.inf)
        expected = _capped(states, window or tokens, cap, sinks if sunk else nothing)
        torch.testing.assert_close(found, expected, rtol=CLOSE, atol=CLOSE)
        asked = (*states, sinks) if sunk else states
        direction = torch.randn_like(expected)
        gradients = torch.autograd.grad((found * direction).sum(), asked)
        torch.testing.assert_close(
            gradients, torch.autograd.grad((expected * direction).sum(), asked), rtol=CLOSE, atol=CLOSE
        )
        last, _ = document_attention(_module(groups), states[0][:, :, -1:], *states[1:], None, **options)
        torch.testing.assert_close(last, found[:, -1:], rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize("window", [1, 7, 40, 64])
def test_a_token_that_goes_on_where_a_cache_ends_sees_the_same(window: int) -> None:
    query, key, value = _states(1, 2, 40)
    whole, _ = document_attention(_module(2), query, key, value, None, sliding_window=window)
    last, _ = document_attention(_module(2), query[:, :, -1:], key, value, None, sliding_window=window)
    torch.testing.assert_close(last, whole[:, -1:])


def test_no_matrix_of_tokens_by_tokens_is_made_for_a_window() -> None:
    tokens, window = 8192, 100
    states = torch.randn(1, 1, tokens, WIDTH)
    largest = LargestTensor()
    with largest:
        document_attention(nn.Module(), states, states, states, None, sliding_window=window)
    assert largest.elements <= attention._BLOCK * (attention._BLOCK + window + 15) < tokens * tokens / 50


def test_capped_weights_are_of_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_BLOCK_NUMBERS", 2**16)
    states = torch.randn(1, 2, 2048, WIDTH, requires_grad=True)
    largest = LargestTensor()
    with largest:
        found, _ = document_attention(nn.Module(), states, states, states, None, softcap=3.0)
        torch.autograd.grad(found.sum(), states)
    assert largest.elements <= 2**16
