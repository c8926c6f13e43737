"""What each optimiser keeps, and that a rate means the same to all of them."""

import pytest
import torch
from torch import nn
from transformers.optimization import Adafactor

from finetune.config import FinetuneSettings
from finetune.errors import InvalidFinetuneSettings
from finetune.memory import ModelSize, estimate
from finetune.optimizers import OPTIMIZERS, OptimizerName, check_optimizer, make_optimizer, set_rate

RATE = 1e-3


def _stepped(model: nn.Module, optimizer: torch.optim.Optimizer, *, steps: int) -> None:
    torch.manual_seed(0)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()


def _made(name: OptimizerName, model: nn.Module, *, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    return make_optimizer(name, model, rate=RATE, weight_decay=weight_decay)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_keeps_what_the_estimate_says(name: OptimizerName) -> None:
    model = nn.Sequential(*(nn.Linear(256, 256) for _ in range(8)))
    optimizer = _made(name, model)
    _stepped(model, optimizer, steps=1)
    tensors = [tensor for state in optimizer.state.values() for tensor in state.values() if torch.is_tensor(tensor)]
    kept = sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())
    weights = sum(parameter.numel() for parameter in model.parameters())
    size = ModelSize(weights=weights, trained=weights, hidden=256, layers=8, vocabulary=256)
    needed = estimate(
        size,
        FinetuneSettings(optimizer=name),
        original_length=64,
        target_length=256,
        number_bytes=4,
        checkpointing=False,
    )
    vectors = 4 * 2 * sum(sum(parameter.shape) + 1 for parameter in model.parameters())
    assert needed.optimizer <= kept <= needed.optimizer + vectors
    assert vectors < 0.03 * needed.weights


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_a_first_step_has_the_rates_size_whatever_the_size_of_the_weights(name: OptimizerName, scale: float) -> None:
    torch.manual_seed(1)
    layer = nn.Linear(256, 128, bias=False)
    nn.init.normal_(layer.weight, std=0.02 * scale)
    before = layer.weight.detach().clone()
    _stepped(layer, _made(name, layer), steps=1)
    moved = (layer.weight.detach() - before).square().mean().sqrt().item()
    assert moved == pytest.approx(RATE, rel=0.15)


def test_adafactor_steps_as_transformers_own_does() -> None:
    """That one with steps that are not relative to the weights' size."""
    torch.manual_seed(2)
    ours, theirs = nn.Linear(48, 32), nn.Linear(48, 32)
    theirs.load_state_dict(ours.state_dict())
    _stepped(ours, _made("adafactor", ours), steps=5)
    other = Adafactor(theirs.parameters(), lr=RATE, scale_parameter=False, relative_step=False)  # type: ignore[no-untyped-call]
    _stepped(theirs, other, steps=5)
    for left, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-6)


def test_eight_bits_step_about_as_thirty_two_do() -> None:
    torch.manual_seed(3)
    exact, rough = nn.Linear(128, 64), nn.Linear(128, 64)
    rough.load_state_dict(exact.state_dict())
    before = exact.weight.detach().clone()
    _stepped(exact, _made("adamw", exact), steps=20)
    _stepped(rough, _made("adamw_8bit", rough), steps=20)
    moved, apart = (exact.weight - before).norm(), (rough.weight - exact.weight).norm()
    assert 0 < apart < 0.05 * moved


@pytest.mark.parametrize("name", [name for name, row in OPTIMIZERS.items() if row.package])
def test_an_optimiser_without_its_package_is_refused_with_the_extra(
    monkeypatch: pytest.MonkeyPatch, name: OptimizerName
) -> None:
    monkeypatch.setattr("finetune.extras.find_spec", lambda package: None)
    with pytest.raises(InvalidFinetuneSettings, match=rf"'{name}' needs .*\[{OPTIMIZERS[name].extra}\]"):
        check_optimizer(name)
    check_optimizer("adamw")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_rate_of_zero_moves_nothing(name: OptimizerName) -> None:
    layer = nn.Linear(8, 8)
    before = layer.weight.detach().clone()
    optimizer = _made(name, layer, weight_decay=0.1)
    set_rate(optimizer, 0.0)
    _stepped(layer, optimizer, steps=1)
    assert torch.equal(layer.weight, before)


def test_vectors_are_not_decayed() -> None:
    layer = nn.Linear(8, 8)
    for name in OPTIMIZERS:
        decays = {
            parameter.ndim: group["weight_decay"]
            for group in _made(name, layer, weight_decay=0.1).param_groups
            for parameter in group["params"]
        }
        assert decays == {1: 0.0, 2: 0.1}
