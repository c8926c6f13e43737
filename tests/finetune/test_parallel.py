"""Two workers train what one does, with a whole model each or with a shard each, interrupted or not."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed as dist
from torch.multiprocessing.spawn import spawn

from evaluation.models.source import ModelSource, resolve_model
from finetune.config import KINDS, FinetuneSettings, Sharding
from finetune.job import run_finetune
from finetune.optimizers import OPTIMIZERS, OptimizerName
from finetune.results import TrainingProgress
from ropewalk.factors.factor_file import FactorFile
from tests.helpers.kept_states import KeptStates, Killed

Trained = tuple[dict[str, torch.Tensor], list[TrainingProgress]]
"""Weights, and what was reported."""
ALONE = FinetuneSettings(
    steps=4, warmup_steps=1, learning_rate=1e-4, long_documents_per_step=2, middle_sequences_per_step=2,
    short_sequences_per_step=2, skipped_rows_per_step=2, skipped_loss_share=0.15, long_every=2, rows_per_pass=1,
    checkpoint_every=2,
)  # fmt: skip
_SHARDINGS: dict[str, Sharding] = {"whole": "none", "sharded": "fsdp"}
SETTINGS = {
    f"{how}, {optimizer}": dataclasses.replace(ALONE, workers=2, sharding=sharding, optimizer=optimizer)
    for optimizer in OPTIMIZERS
    for how, sharding in _SHARDINGS.items()
    if how == "whole" or OPTIMIZERS[optimizer].shards
}
SHARDED = [name for name, settings in SETTINGS.items() if settings.sharding == "fsdp"]


def _by_kind(seen: list[TrainingProgress]) -> list[list[float]]:
    """(steps, kinds); NaN where a step had none."""
    return [[float("nan") if p.loss(kind) is None else p.loss(kind) for kind in KINDS] for p in seen]  # type: ignore[misc]


def _worker(rank: int, model: str, factors: str, directory: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/meeting", rank=rank, world_size=2)
    source, file = resolve_model(model), FactorFile.from_json(factors)
    for name, settings in SETTINGS.items():
        losses: list[TrainingProgress] = []
        run_finetune(source, file, settings, directory / name / str(rank), losses.append)
        if rank == 0:
            (directory / name / "losses").write_text(json.dumps(_by_kind(losses)))
    for name in SHARDED:
        _kill_and_resume(source, file, SETTINGS[name], directory / f"{name}, killed")
    dist.destroy_process_group()


def _kill_and_resume(source: ModelSource, file: FactorFile, settings: FinetuneSettings, directory: Path) -> None:
    states = directory / "states"
    try:
        run_finetune(source, file, settings, directory / "dead", lambda _: None, states=KeptStates(states, dies_at=2))
    except Killed:
        dist.barrier()
    run_finetune(source, file, settings, directory / "resumed", lambda _: None, states=KeptStates(states))


@pytest.fixture(scope="module")
def trained(tiny_source: ModelSource, factor_file: FactorFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have trained, all in one start of theirs."""
    directory = tmp_path_factory.mktemp("two")
    spawn(_worker, (str(tiny_source.path), factor_file.to_json(), directory), nprocs=2)  # type: ignore[no-untyped-call]
    return directory


@pytest.fixture(scope="module")
def alone(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path_factory: pytest.TempPathFactory
) -> dict[OptimizerName, Trained]:
    return {
        optimizer: _alone(tiny_source, factor_file, optimizer, tmp_path_factory.mktemp("one") / "out")
        for optimizer in OPTIMIZERS
    }


def _alone(source: ModelSource, file: FactorFile, optimizer: OptimizerName, output: Path) -> Trained:
    seen: list[TrainingProgress] = []
    run_finetune(source, file, dataclasses.replace(ALONE, optimizer=optimizer), output, seen.append)
    return load_file(output / "model.safetensors"), seen


@pytest.mark.parametrize("name", SETTINGS)
def test_two_workers_give_the_weights_of_one(trained: Path, alone: dict[OptimizerName, Trained], name: str) -> None:
    weights, progress = alone[SETTINGS[name].optimizer]
    both = load_file(trained / name / "0" / "model.safetensors")
    assert both.keys() == weights.keys()
    for key, expected in weights.items():
        torch.testing.assert_close(both[key], expected, atol=1e-5, rtol=0)
    assert not (trained / name / "1").exists()  # the first worker alone writes
    losses = json.loads((trained / name / "losses").read_text())
    torch.testing.assert_close(
        torch.tensor(losses), torch.tensor(_by_kind(progress)), rtol=1e-5, atol=0, equal_nan=True
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_the_weights_did_move(tiny_source: ModelSource, trained: Path, name: str) -> None:
    before = load_file(tiny_source.path / "model.safetensors")
    after = load_file(trained / name / "0" / "model.safetensors")
    assert max((after[key] - before[key]).abs().max().item() for key in before) > 2e-4


@pytest.mark.parametrize("name", SHARDED)
def test_a_sharded_training_is_resumed_bit_for_bit(trained: Path, name: str) -> None:
    killed = trained / f"{name}, killed"
    assert not (killed / "dead").exists()
    expected = (trained / name / "0" / "model.safetensors").read_bytes()
    assert (killed / "resumed" / "model.safetensors").read_bytes() == expected
