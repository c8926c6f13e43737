"""Attention within windows, in blocks, against one matrix of everything with everything."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evaluation.architecture import attention
from evaluation.architecture.attention import document_attention
from tests.helpers.largest_tensor import LargestTensor

WIDTH = 8  # numbers per head


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
    assert largest.elements <= attention._BLOCK * (attention._BLOCK + window) < tokens * tokens / 50
