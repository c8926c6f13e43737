"""The whole job on a tiny model: refusals, repetition, stopping, and a checkpoint that others load."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedModel

from evaluation.errors import CorpusNotFound
from evaluation.models.loading import heard_by
from evaluation.models.source import ModelSource
from finetune import job
from finetune.config import FinetuneSettings
from finetune.errors import (
    InvalidFinetuneSettings,
    ModelNotTrainable,
    OutputNotEmpty,
    TrainingDiverged,
    TrainingStopped,
)
from finetune.job import run_finetune
from finetune.language_model import load_model
from finetune.output.checkpoint import write_checkpoint
from finetune.output.fitting import check_fits
from finetune.results import FinetuneResult, TrainingProgress
from finetune.rotary import RotarySwitch
from ropewalk.errors import FactorsDoNotFit
from ropewalk.factors.factor_file import FactorFile
from ropewalk.rope.published import PairFactors
from tests.helpers.tiny_llama import ORIGINAL_LENGTH, TARGET_LENGTH, make_factor_file

QUICK = FinetuneSettings(steps=4, warmup_steps=1, long_documents_per_step=1, short_sequences_per_step=1)


def _run(
    source: ModelSource, file: FactorFile, output: Path, settings: FinetuneSettings = QUICK
) -> tuple[FinetuneResult, list[TrainingProgress]]:
    seen: list[TrainingProgress] = []
    return run_finetune(source, file, settings, output, seen.append), seen


def test_the_job_reports_every_step_and_both_losses(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    state = torch.random.get_rng_state()
    heard: list[float] = []
    with heard_by(heard.append):
        result, seen = _run(tiny_source, factor_file, tmp_path / "out")
    assert heard == sorted(heard)
    assert (heard[0], heard[-1]) == (0.0, 1.0), "how far the model is loaded"
    assert [progress.step for progress in seen] == [1, 2, 3, 4]
    assert all(progress.total == 4 for progress in seen)
    assert [progress.learning_rate for progress in seen] == [QUICK.learning_rate_at(step) for step in range(4)]
    assert all(left.seconds <= right.seconds for left, right in itertools.pairwise(seen))
    assert result.checkpoint == tmp_path / "out"
    assert result.steps == 4
    assert result.tokens == 4 * 2 * TARGET_LENGTH
    assert result.initial_loss_long == seen[0].loss_long
    assert result.final_loss_short == seen[-1].loss_short is not None
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_same_arguments_give_the_same_weights_bit_for_bit(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path
) -> None:
    _, seen = _run(tiny_source, factor_file, tmp_path / "a")
    torch.manual_seed(99)
    _, again = _run(tiny_source, factor_file, tmp_path / "b")
    _run(tiny_source, factor_file, tmp_path / "c", dataclasses.replace(QUICK, seed=1))
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    assert [(p.loss_long, p.loss_short) for p in seen] == [(p.loss_long, p.loss_short) for p in again]


@pytest.mark.parametrize("attention_factor", [1.0, 1.1])
def test_the_checkpoint_loads_as_it_was_trained_in_both_windows(
    tiny_source: ModelSource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attention_factor: float,
) -> None:
    """The trained model in memory, through the rotary switch, against the directory through plain transformers."""
    file = make_factor_file(tiny_source, target_length=TARGET_LENGTH, attention_factor=attention_factor)
    trained: list[PreTrainedModel] = []

    def keep(path: Path, *, dtype: torch.dtype | None) -> PreTrainedModel:
        trained.append(load_model(path, dtype=dtype))
        return trained[0]

    monkeypatch.setattr(job, "load_model", keep)
    _run(tiny_source, file, tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    switch = RotarySwitch(
        trained[0],
        rope=file.rope,
        scaling=file.scaling,
    )
    ids = torch.randint(0, 400, (1, TARGET_LENGTH), generator=torch.Generator().manual_seed(0))
    # Long, short, and long again: the loaded model must switch both ways. L is the last short length.
    for length in (TARGET_LENGTH, ORIGINAL_LENGTH, 20, ORIGINAL_LENGTH + 1):
        with torch.no_grad(), switch.window("long" if length > ORIGINAL_LENGTH else "short"):
            expected = trained[0](input_ids=ids[:, :length]).logits
            actual = loaded(input_ids=ids[:, :length]).logits
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)
    base = LlamaForCausalLM.from_pretrained(tiny_source.path, dtype=torch.float32)
    with torch.no_grad():
        moved = base(input_ids=ids[:, :20]).logits - loaded(input_ids=ids[:, :20]).logits
    assert moved.abs().max() > 1e-3  # it did train


def test_the_checkpoint_directory_is_complete(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path
) -> None:
    output = tmp_path / "deep" / "out"
    _run(tiny_source, factor_file, output)
    config = json.loads((output / "config.json").read_text())
    rope = config["rope_parameters"]
    assert config["max_position_embeddings"] == TARGET_LENGTH
    assert config["original_max_position_embeddings"] == rope["original_max_position_embeddings"] == ORIGINAL_LENGTH
    assert rope["rope_type"] == "longrope"
    assert rope["factor"] == TARGET_LENGTH / ORIGINAL_LENGTH
    assert rope["attention_factor"] == rope["short_mscale"] == rope["long_mscale"] == 1.0
    assert tuple(rope["long_factor"]) == factor_file.long_factor.values
    assert FactorFile.from_json((output / "factors.json").read_text()) == factor_file
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert tokenizer.model_max_length == TARGET_LENGTH
    assert (output / "tokenizer.json").read_bytes() == (tiny_source.path / "tokenizer.json").read_bytes()
    card = (output / "README.md").read_text()
    assert f"extended to {TARGET_LENGTH} tokens" in card
    assert "ropewalk.generate(model, input_ids" in card
    assert f"max_model_len={ORIGINAL_LENGTH}" in card
    assert "{" not in card
    assert str(tmp_path) not in card
    assert [path.name for path in output.parent.iterdir()] == ["out"]  # no scratch directory is left
    assert output.stat().st_mode & 0o777 == 0o755


def test_without_short_sequences_only_the_long_loss_is_reported(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path
) -> None:
    settings = dataclasses.replace(QUICK, short_sequences_per_step=0, steps=2)
    result, seen = _run(tiny_source, factor_file, tmp_path / "out", settings)
    assert [progress.loss_short for progress in seen] == [None, None]
    assert result.initial_loss_short is result.final_loss_short is None
    assert "not trained on" in (tmp_path / "out" / "README.md").read_text()


def test_a_stopped_job_writes_nothing(tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    with pytest.raises(TrainingStopped, match="after 2 of 4 steps") as caught:
        run_finetune(tiny_source, factor_file, QUICK, tmp_path / "out", seen.append, should_stop=lambda: len(seen) == 2)
    assert caught.value.code == "TRAINING_STOPPED"
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_callback_ends_the_job(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path
) -> None:
    def fail(progress: TrainingProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_finetune(tiny_source, factor_file, QUICK, tmp_path / "out", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_diverges_says_so(tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, learning_rate=1.0, clip=1e6, steps=60, warmup_steps=0, answer_weight=1000.0)
    broken = dataclasses.replace(factor_file, attention_factor=1e30)  # cos and sin overflow float32 when multiplied
    with pytest.raises(TrainingDiverged, match="finite"):
        _run(tiny_source, broken, tmp_path / "out", settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_nothing_is_overwritten(tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path, kind: str) -> None:
    output = tmp_path / "out"
    if kind == "file":
        output.write_text("mine")
    elif kind == "directory":
        output.mkdir()
        (output / "kept.txt").write_text("mine")
    else:
        output.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputNotEmpty, match=f"output={output}"):
        _run(tiny_source, factor_file, output)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_directory_is_taken(tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    _run(tiny_source, factor_file, tmp_path / "out", dataclasses.replace(QUICK, steps=1, warmup_steps=0))
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_failed_write_leaves_nothing_behind(
    tiny_source: ModelSource, factor_file: FactorFile, tiny_model: LlamaForCausalLM, tmp_path: Path
) -> None:
    unwritable = "a card that UTF-8 cannot hold: \ud800"
    with pytest.raises(UnicodeEncodeError):
        write_checkpoint(
            tiny_model, source=tiny_source, file=factor_file, model_card=unwritable, output=tmp_path / "out"
        )
    assert list(tmp_path.iterdir()) == []


def test_an_output_below_a_file_is_an_os_error(
    tiny_source: ModelSource, factor_file: FactorFile, tiny_model: LlamaForCausalLM, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(OSError, match="file"):
        write_checkpoint(
            tiny_model, source=tiny_source, file=factor_file, model_card="", output=tmp_path / "file" / "out"
        )


def test_factors_of_another_model_are_refused(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path
) -> None:
    model = factor_file.model
    others: dict[str, FactorFile] = {
        "rope_theta": dataclasses.replace(factor_file, model=dataclasses.replace(model, rope_theta=500.0)),
        "sha256": dataclasses.replace(factor_file, model=dataclasses.replace(model, sha256="0" * 64)),
        "rotary_dim": dataclasses.replace(
            factor_file,
            model=dataclasses.replace(model, rotary_dim=4),
            short_factor=PairFactors((1.0, 1.0)),
            long_factor=PairFactors((1.0, 2.0)),
        ),
        "original_max_position_embeddings": dataclasses.replace(factor_file, original_max_position_embeddings=200),
        "target_length": dataclasses.replace(factor_file, target_length=ORIGINAL_LENGTH),
    }
    for rule, file in others.items():
        with pytest.raises(FactorsDoNotFit, match=f"{rule}.* must be .*, but"):
            _run(tiny_source, file, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_factors_without_a_checksum_fit_any_weights_of_their_rope(
    tiny_source: ModelSource, factor_file: FactorFile
) -> None:
    check_fits(tiny_source, dataclasses.replace(factor_file, model=dataclasses.replace(factor_file.model, sha256=None)))


def test_a_missing_corpus_is_refused_before_training(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path
) -> None:
    with pytest.raises(CorpusNotFound):
        _run(tiny_source, factor_file, tmp_path / "out", dataclasses.replace(QUICK, corpus=str(tmp_path / "no.txt")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", ["model.safetensors", "config.json"])
def test_a_model_that_does_not_load_is_refused(tiny_source: ModelSource, tmp_path: Path, broken: str) -> None:
    shutil.copytree(tiny_source.path, tmp_path / "model")
    (tmp_path / "model" / broken).write_bytes(b"\x10 nonsense")
    with pytest.raises(ModelNotTrainable, match="must load as a causal language model"):
        load_model(tmp_path / "model")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device that must be missing")
def test_a_device_that_is_not_there_is_refused(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path
) -> None:
    with pytest.raises(InvalidFinetuneSettings, match="device='cuda'"):
        _run(tiny_source, factor_file, tmp_path / "out", dataclasses.replace(QUICK, device="cuda"))
