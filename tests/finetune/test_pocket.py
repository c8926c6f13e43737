"""A few real steps on the pocket model: it learns in both windows, on documents that the steps did not see."""

from pathlib import Path
from statistics import fmean

import torch
from transformers import PreTrainedModel

from evaluation.documents.corpus import Corpus
from evaluation.models.source import load_tokenizer, resolve_model
from finetune.config import FinetuneSettings
from finetune.data import MicroBatch, TrainingData
from finetune.job import run_finetune
from finetune.language_model import LanguageModelLoss, load_model
from finetune.parallel import Ranks
from finetune.results import TrainingProgress
from finetune.rotary import RotarySwitch
from finetune.token_store import open_token_store
from tests.helpers.tiny_llama import make_factor_file

TARGET_LENGTH = 1024
UNSEEN_STEP = 1000


def _loss(model: PreTrainedModel, batches: list[MicroBatch]) -> float:
    with torch.no_grad():
        loss = LanguageModelLoss(model)
        return fmean(loss(batch).item() / float(batch.weights.sum()) for batch in batches)


def test_a_few_steps_lower_the_loss_in_both_windows(corpus: Corpus, tmp_path: Path) -> None:
    source = resolve_model("pocket")
    file = make_factor_file(source, target_length=TARGET_LENGTH)
    settings = FinetuneSettings(steps=4, warmup_steps=1, long_documents_per_step=1, short_sequences_per_step=1)
    tokenizer = load_tokenizer(source)
    data = TrainingData(
        tokenizer,
        corpus,
        open_token_store(tokenizer, corpus, None, None),
        original_length=file.original_max_position_embeddings,
        target_length=TARGET_LENGTH,
        settings=settings,
    )
    unseen = [batch for step in range(2) for batch in data.batches(UNSEEN_STEP + step, Ranks())]
    long = [batch for batch in unseen if batch.kind == "long"]
    short = [batch for batch in unseen if batch.kind == "short"]

    base = load_model(source.path)
    switch = RotarySwitch(
        base,
        rope=file.rope,
        scaling=file.scaling,
    )
    with switch.window("long"):
        long_before = _loss(base, long)
    with switch.window("short"):
        short_before = _loss(base, short)

    seen: list[TrainingProgress] = []
    run_finetune(source, file, settings, tmp_path / "out", seen.append)

    # No rotary switch from here on: the config alone decides which factors are used.
    trained = load_model(tmp_path / "out")
    assert len(seen) == 4
    assert _loss(trained, long) < long_before - 0.05
    assert _loss(trained, short) < short_before - 0.02
