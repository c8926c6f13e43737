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
from finetune.config import KINDS, FinetuneSettings
from finetune.job import run_finetune
from finetune.results import TrainingProgress
from ropewalk.factors.factor_file import FactorFile
from tests.helpers.kept_states import KeptStates, Killed

ALONE = FinetuneSettings(
    steps=4, warmup_steps=1, learning_rate=1e-4, long_documents_per_step=2, middle_sequences_per_step=2,
    short_sequences_per_step=2, skipped_rows_per_step=2, skipped_loss_share=0.15, long_every=2, rows_per_pass=1,
    checkpoint_every=2,
)  # fmt: skip
SETTINGS = {
    "whole": dataclasses.replace(ALONE, workers=2),
    "sharded": dataclasses.replace(ALONE, workers=2, sharding="fsdp"),
}


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
    states = directory / "states"
    try:
        run_finetune(
            source, file, SETTINGS["sharded"], directory / "dead", lambda _: None, states=KeptStates(states, dies_at=2)
        )
    except Killed:
        dist.barrier()
    run_finetune(source, file, SETTINGS["sharded"], directory / "resumed", lambda _: None, states=KeptStates(states))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tiny_source: ModelSource, factor_file: FactorFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have trained, all in one start of theirs."""
    directory = tmp_path_factory.mktemp("two")
    spawn(_worker, (str(tiny_source.path), factor_file.to_json(), directory), nprocs=2)  # type: ignore[no-untyped-call]
    return directory


@pytest.fixture(scope="module")
def alone(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, torch.Tensor], list[TrainingProgress]]:
    output = tmp_path_factory.mktemp("one") / "out"
    seen: list[TrainingProgress] = []
    run_finetune(tiny_source, factor_file, ALONE, output, seen.append)
    return load_file(output / "model.safetensors"), seen


@pytest.mark.parametrize("name", SETTINGS)
def test_two_workers_give_the_weights_of_one(
    trained: Path, alone: tuple[dict[str, torch.Tensor], list[TrainingProgress]], name: str
) -> None:
    weights, progress = alone
    both = load_file(trained / name / "0" / "model.safetensors")
    assert both.keys() == weights.keys()
    for key, expected in weights.items():
        torch.testing.assert_close(both[key], expected, atol=1e-5, rtol=0)
    assert not (trained / name / "1").exists()  # the first worker alone writes
    losses = json.loads((trained / name / "losses").read_text())
    torch.testing.assert_close(
        torch.tensor(losses), torch.tensor(_by_kind(progress)), rtol=1e-5, atol=0, equal_nan=True
    )


def test_the_weights_did_move(tiny_source: ModelSource, trained: Path) -> None:
    before = load_file(tiny_source.path / "model.safetensors")
    after = load_file(trained / "whole" / "0" / "model.safetensors")
    assert max((after[key] - before[key]).abs().max().item() for key in before) > 2e-4


def test_a_sharded_training_is_resumed_bit_for_bit(trained: Path) -> None:
    assert not (trained / "dead").exists()
    expected = (trained / "sharded" / "0" / "model.safetensors").read_bytes()
    assert (trained / "resumed" / "model.safetensors").read_bytes() == expected
