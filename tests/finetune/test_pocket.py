"""A few real steps on the pocket model: it learns in both windows, on documents that the steps did not see."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from evaluation.corpus import Corpus
from evaluation.model_source import load_tokenizer, resolve_model
from finetune.config import FinetuneSettings
from finetune.data import MicroBatch, TrainingData
from finetune.job import load_model, run_finetune
from finetune.rotary import RotarySwitch
from finetune.training import TrainingProgress, weighted_nll
from tests.finetune.conftest import make_factor_file

TARGET_LENGTH = 1024
UNSEEN_STEP = 1000


def _loss(model: PreTrainedModel, batches: list[MicroBatch]) -> float:
    with torch.no_grad():
        return sum(weighted_nll(model, batch).item() for batch in batches) / len(batches)


def test_a_few_steps_lower_the_loss_in_both_windows(corpus: Corpus, tmp_path: Path) -> None:
    source = resolve_model("pocket")
    file = make_factor_file(source, target_length=TARGET_LENGTH)
    settings = FinetuneSettings(steps=4, warmup_steps=1, long_documents_per_step=1, short_sequences_per_step=1)
    data = TrainingData(
        load_tokenizer(source),
        corpus,
        original_length=file.original_max_position_embeddings,
        target_length=TARGET_LENGTH,
        settings=settings,
    )
    long = [data.long_batch(UNSEEN_STEP + step) for step in range(2)]
    short = [batch for step in range(2) if (batch := data.short_batch(UNSEEN_STEP + step))]

    base = load_model(source.path)
    switch = RotarySwitch(
        base,
        rope=file.rope,
        short_factors=file.short_factor,
        long_factors=file.long_factor,
        attention_factor=file.attention_factor,
    )
    with switch.window("long"):
        long_before = _loss(base, long)
    with switch.window("short"):
        short_before = _loss(base, short)

    seen: list[TrainingProgress] = []
    run_finetune(source, file, settings, tmp_path / "out", seen.append)

    # Plain transformers from here on: the config alone decides which factors are used.
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert len(seen) == 4
    assert _loss(trained, long) < long_before - 0.05
    assert _loss(trained, short) < short_before - 0.02
