"""The chunked loss is the plain one, in value and gradient, without its logits."""

from typing import NamedTuple

import pytest
import torch
from torch.nn.functional import cross_entropy, linear

from finetune.loss import weighted_nll_sum
from tests.helpers.largest_tensor import LargestTensor

TARGETS, HIDDEN, VOCABULARY = 37, 16, 101
CHUNK = 5 * VOCABULARY  # five tokens: the last chunk is a part of one


class Inputs(NamedTuple):
    hidden: torch.Tensor
    head: torch.Tensor
    bias: torch.Tensor | None


def _inputs(*, bias: bool, dtype: torch.dtype = torch.float64) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    shapes = (TARGETS, HIDDEN), (VOCABULARY, HIDDEN), (VOCABULARY,)
    hidden, head, offset = (torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes)
    return Inputs(hidden, head, offset if bias else None)


def _labels() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(0, VOCABULARY, (TARGETS,), generator=generator)
    return targets, torch.rand(TARGETS, generator=generator) * 10


def _plain(hidden: torch.Tensor, head: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    targets, weights = _labels()
    return (cross_entropy(linear(hidden, head, bias), targets, reduction="none") * weights).sum()


@pytest.mark.parametrize("bias", [False, True])
def test_loss_and_gradients_are_those_of_the_plain_formula(bias: bool) -> None:
    given = _inputs(bias=bias, dtype=torch.float32)
    plain = _inputs(bias=bias, dtype=torch.float64)
    expected = _plain(*plain)
    loss = weighted_nll_sum(given.hidden, given.head, given.bias, *_labels(), chunk_elements=CHUNK)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    torch.autograd.backward(expected * 0.25)
    torch.autograd.backward(loss * 0.25)
    for one, other in zip(given, plain, strict=True):
        if one is not None and other is not None:
            assert one.grad is not None
            assert other.grad is not None
            torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-5, atol=1e-5)


def test_a_frozen_head_gets_no_gradient_and_changes_nothing_else() -> None:
    hidden, head, _ = _inputs(bias=False)
    frozen = head.detach()
    torch.autograd.backward(weighted_nll_sum(hidden, frozen, None, *_labels(), chunk_elements=CHUNK))
    again, other, _ = _inputs(bias=False)
    torch.autograd.backward(_plain(again, other, None))
    torch.testing.assert_close(hidden.grad, again.grad, rtol=1e-5, atol=1e-5)


def test_no_targets_lose_nothing() -> None:
    hidden, head, _ = _inputs(bias=False)
    nothing = torch.zeros(0, dtype=torch.long)
    loss = weighted_nll_sum(hidden[:0], head, None, nothing, torch.zeros(0))
    torch.autograd.backward(loss)
    assert loss.item() == 0.0
    assert head.grad is not None
    assert not head.grad.any()


def test_logits_of_all_targets_never_exist_at_once() -> None:
    hidden = torch.randn(600, 8).requires_grad_()
    head = torch.randn(500, 8).requires_grad_()
    largest = LargestTensor()
    with largest:
        labels = torch.zeros(600, dtype=torch.long), torch.ones(600)
        torch.autograd.backward(weighted_nll_sum(hidden, head, None, *labels, chunk_elements=20 * 500))
    assert largest.elements == 20 * 500  # 300,000 logits, 10,000 at a time


def test_under_autocast_products_are_taken_in_the_shorter_type() -> None:
    hidden, head, _ = _inputs(bias=False, dtype=torch.float32)
    exact = weighted_nll_sum(hidden, head, None, *_labels())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = weighted_nll_sum(hidden, head, None, *_labels())
    assert rough.dtype == torch.float32
    assert rough != exact
    torch.testing.assert_close(rough, exact, rtol=1e-2, atol=0)
