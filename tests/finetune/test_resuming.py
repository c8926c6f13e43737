"""A training that is interrupted and goes on ends at the same bits; another training's state is refused."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.documents.corpus import Corpus
from evaluation.models.source import ModelSource, resolve_model
from finetune import job
from finetune.config import KINDS, Dtype, FinetuneSettings, GradientCheckpointing
from finetune.errors import CannotResume, NotEnoughMemory
from finetune.job import run_finetune
from finetune.language_model import LanguageModelLoss, load_model
from finetune.memory import GIB, MemoryEstimate, ModelSize, check_memory, estimate, use_checkpointing
from finetune.optimizers import OPTIMIZERS, OptimizerName
from finetune.results import TrainingProgress
from finetune.training_state import newest_state
from ropewalk.factors.factor_file import FactorFile
from tests.helpers.kept_states import KeptStates, Killed
from tests.helpers.tiny_llama import ORIGINAL_LENGTH, TARGET_LENGTH

SETTINGS = FinetuneSettings(
    steps=12, warmup_steps=1, long_documents_per_step=1, middle_sequences_per_step=1, checkpoint_every=4,
    skipped_rows_per_step=2, skipped_tail_share=0.3, skipped_loss_share=0.15, long_every=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def interrupted(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[TrainingProgress]]:
    """(states of a training that was killed after its second one, what it had reported)"""
    return _interrupted(tiny_source, factor_file, SETTINGS, tmp_path_factory.mktemp("states"))


def _interrupted(
    source: ModelSource, file: FactorFile, settings: FinetuneSettings, directory: Path
) -> tuple[Path, list[TrainingProgress]]:
    seen: list[TrainingProgress] = []
    with pytest.raises(Killed):
        run_finetune(source, file, settings, directory / "out", seen.append, states=KeptStates(directory, dies_at=8))
    return directory, seen


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path, optimizer: OptimizerName
) -> None:
    settings = dataclasses.replace(SETTINGS, optimizer=optimizer)
    states, before = _interrupted(tiny_source, factor_file, settings, tmp_path / "states")
    whole: list[TrainingProgress] = []
    expected = run_finetune(tiny_source, factor_file, settings, tmp_path / "whole", whole.append)
    after: list[TrainingProgress] = []
    result = run_finetune(
        tiny_source, factor_file, settings, tmp_path / "resumed", after.append, states=KeptStates(states)
    )
    assert (tmp_path / "resumed" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()
    assert [(p.step, p.began_at) for p in after] == [(step, 8) for step in range(9, 13)]
    losses = [[p.loss(kind) for kind in KINDS] for p in [*before, *after]]
    assert losses == [[p.loss(kind) for kind in KINDS] for p in whole]
    assert [loss is None for loss in losses[0]] == [kind == "long" for kind in KINDS]
    assert [loss is None for loss in losses[1]] == [kind == "skipped" for kind in KINDS]
    assert after[0].seconds > before[-1].seconds
    assert dataclasses.replace(result, checkpoint=expected.checkpoint, seconds=expected.seconds) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 2e-3},
        {"seed": 1},
        {"steps": 13},
        {"middle_loss_share": 0.2},
        {"long_every": 3},
        {"optimizer": "adafactor"},
    ],
)
def test_another_trainings_state_is_refused(
    tiny_source: ModelSource,
    factor_file: FactorFile,
    tmp_path: Path,
    interrupted: tuple[Path, list[TrainingProgress]],
    change: dict[str, Any],
) -> None:
    states, _ = interrupted
    settings = dataclasses.replace(SETTINGS, **change)
    with pytest.raises(CannotResume, match="its own model, tokenizer, corpus, factors and settings"):
        run_finetune(
            tiny_source, factor_file, settings, tmp_path / "out", lambda progress: None, states=KeptStates(states)
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("corpus.txt", "Python", "Cobra"),
        ("model/tokenizer.json", '"use_regex": true', '"use_regex": false'),
        ("model/config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'),
    ],
    ids=["corpus", "tokenizer", "config"],
)
def test_a_training_whose_files_were_rewritten_in_place_is_refused(
    tiny_source: ModelSource, corpus: Corpus, factor_file: FactorFile, tmp_path: Path, file: str, old: str, new: str
) -> None:
    shutil.copytree(tiny_source.path, tmp_path / "model")
    (tmp_path / "corpus.txt").write_text(corpus.text[:200_000], encoding="utf-8")
    settings = dataclasses.replace(SETTINGS, steps=2, checkpoint_every=1, corpus=str(tmp_path / "corpus.txt"))

    def run(states: KeptStates) -> None:
        source = resolve_model(str(tmp_path / "model"))
        run_finetune(source, factor_file, settings, tmp_path / "out", lambda progress: None, states=states)

    with pytest.raises(Killed):
        run(KeptStates(tmp_path / "states", dies_at=1))
    kept = {path: path.read_bytes() for path in (tmp_path / "states").rglob("*.*")}
    before = (tmp_path / file).read_text(encoding="utf-8")
    (tmp_path / file).write_text(before.replace(old, new), encoding="utf-8")
    with pytest.raises(CannotResume, match="its own model, tokenizer, corpus, factors and settings"):
        run(KeptStates(tmp_path / "states"))
    assert {path: path.read_bytes() for path in (tmp_path / "states").rglob("*.*")} == kept
    assert not (tmp_path / "out").exists()
    (tmp_path / file).write_text(before, encoding="utf-8")
    run(KeptStates(tmp_path / "states"))


def test_a_state_that_is_not_whole_is_passed_over(
    interrupted: tuple[Path, list[TrainingProgress]], tmp_path: Path
) -> None:
    states, _ = interrupted
    assert newest_state(list(states.iterdir())) == states / "8"
    cut = tmp_path / "8"
    cut.mkdir()
    (cut / "rank-0.json").write_bytes((states / "8" / "rank-0.json").read_bytes())
    assert newest_state([cut, states / "4"]) == states / "4"
    (cut / "rank-0.safetensors").write_bytes((states / "8" / "rank-0.safetensors").read_bytes()[:-1])
    assert newest_state([cut, states / "4"]) == states / "4"
    assert newest_state([]) is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("setting", ["on", "off"])
def test_gradient_checkpointing_changes_no_bit(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path, setting: GradientCheckpointing, dtype: Dtype
) -> None:
    settings = dataclasses.replace(SETTINGS, steps=2, gradient_checkpointing=setting, dtype=dtype)
    run_finetune(tiny_source, factor_file, settings, tmp_path / "out", lambda progress: None)
    plain = dataclasses.replace(SETTINGS, steps=2, dtype=dtype)
    run_finetune(tiny_source, factor_file, plain, tmp_path / "plain", lambda progress: None)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        tmp_path / "plain" / "model.safetensors"
    ).read_bytes()


def test_bfloat16_trains_float32_weights_to_about_the_same_losses(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path
) -> None:
    seen: dict[str, list[TrainingProgress]] = {"float32": [], "bfloat16": []}
    for dtype, progress in seen.items():
        settings = dataclasses.replace(SETTINGS, steps=2, dtype=dtype)  # type: ignore[arg-type]
        run_finetune(tiny_source, factor_file, settings, tmp_path / dtype, progress.append)
    exact, rough = (progress[-1].loss_long for progress in seen.values())
    assert rough != exact
    assert rough == pytest.approx(exact, rel=2e-2)
    assert load_model(tmp_path / "bfloat16", dtype=None).dtype == torch.float32


def test_memory_is_estimated_and_a_training_that_does_not_fit_is_refused(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = ModelSize.of(load_model(tiny_source.path))
    weights = size.weights
    kwargs = {"original_length": ORIGINAL_LENGTH, "target_length": TARGET_LENGTH, "number_bytes": 4}
    whole = estimate(size, SETTINGS, checkpointing=False, **kwargs)
    assert (whole.weights, whole.gradients, whole.optimizer) == (4 * weights, 4 * weights, 8 * weights)
    assert estimate(size, SETTINGS, checkpointing=True, **kwargs).activations < whole.activations
    assert not use_checkpointing(size, SETTINGS, possible=True, **kwargs)
    kwargs["target_length"] = 100 * GIB // whole.activations * TARGET_LENGTH
    assert use_checkpointing(size, SETTINGS, possible=True, **kwargs)
    assert not use_checkpointing(size, SETTINGS, possible=False, **kwargs)

    monkeypatch.setattr(job, "available_bytes", lambda device: 1000)
    with pytest.raises(NotEnoughMemory, match=r"free memory of a device, 0\.0 GiB, but takes about .*optimizer"):
        run_finetune(tiny_source, factor_file, SETTINGS, tmp_path / "out", lambda progress: None)
    nothing = MemoryEstimate(weights=1, gradients=1, optimizer=1, activations=1, logits=1)
    check_memory(nothing, available=None, target_length=1)
    check_memory(nothing, available=5, target_length=1)


def test_a_head_that_does_more_than_project_is_left_to_the_model(tiny_source: ModelSource) -> None:
    model = load_model(tiny_source.path)
    loss = LanguageModelLoss(model)
    loss.check()
    assert loss._plain_head
    model.register_forward_hook(_softcap, with_kwargs=True)
    loss.check()
    assert not loss._plain_head


def _softcap(module: torch.nn.Module, args: object, kwargs: object, output: object) -> object:
    output.logits = 3.0 * torch.tanh(output.logits / 3.0)  # type: ignore[attr-defined]
    return output
