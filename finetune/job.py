"""One fine-tuning job: a model and a factor file in, a `longrope` checkpoint out.

LongRoPE2 (arXiv 2502.20082, section 3.3), mixed-context-window training. Each step sees documents of at most the
original length L, packed and masked apart, with original RoPE; and documents of the target length L' with the found
factors.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from evaluation.corpus import load_corpus
from evaluation.model_source import ModelSource, load_tokenizer
from finetune.checkpoint import check_output, no_progress_bars, write_checkpoint
from finetune.config import FinetuneSettings
from finetune.data import TrainingData
from finetune.errors import InvalidFinetuneSettings, ModelNotTrainable
from finetune.fitting import check_fits
from finetune.model_card import model_card
from finetune.rotary import RotarySwitch
from finetune.training import TrainingProgress, train
from search_space.factor_file import FactorFile


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneResult:
    """What the job did.

    Losses are weighted means in nats per token, averaged over the first and the last tenth of the steps, because those
    of single steps are noisy; the short ones are None when no short sequences were trained on.
    """

    checkpoint: Path
    steps: int
    tokens: int
    """Tokens trained on, padding included."""
    initial_loss_long: float
    final_loss_long: float
    initial_loss_short: float | None
    final_loss_short: float | None
    seconds: float
    """From the first step's begin to the last one's end."""


def run_finetune(
    source: ModelSource,
    file: FactorFile,
    settings: FinetuneSettings,
    output: Path,
    on_progress: Callable[[TrainingProgress], None],
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> FinetuneResult:
    """Train `source` with the factors of `file` and write the checkpoint to `output`, a new or empty directory.

    `on_progress` is called after every step, in this thread; an exception from it ends the job. The same arguments give
    the same weights, bit for bit, on one CPU type with one number of threads. Nothing is written before the last step.

    Raises FactorsDoNotFit, OutputNotEmpty, ModelNotTrainable and InvalidFinetuneSettings (a device that is not there)
    before the first step; TrainingStopped and TrainingDiverged from it; the errors of `evaluation` for the corpus, the
    tokenizer and the documents.
    """
    check_output(output)
    check_fits(source, file)
    device = _device(settings)
    data = _training_data(source, file, settings)
    with _torch_settings(settings):
        model = load_model(source.path)
        model.to(device=device)  # type: ignore[call-arg]
        history = _train(model, data, file, settings, on_progress, should_stop)
        result = _result(history, settings, file, output)
        write_checkpoint(
            model,
            source=source,
            file=file,
            model_card=model_card(source, file, settings, result),
            output=output,
        )
    return result


def load_model(path: Path) -> PreTrainedModel:
    """The causal language model in `path` with float32 weights. Raises ModelNotTrainable when it does not load."""
    try:
        with no_progress_bars():
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                path, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
            )
    except Exception as error:  # transformers raises whatever its many readers raise
        raise ModelNotTrainable(
            f"the model must load as a causal language model, but {path} does not: {error}"
        ) from error
    return model


def _training_data(source: ModelSource, file: FactorFile, settings: FinetuneSettings) -> TrainingData:
    return TrainingData(
        load_tokenizer(source),
        load_corpus(settings.corpus),
        original_length=file.original_max_position_embeddings,
        target_length=file.target_length,
        settings=settings,
    )


def _train(
    model: PreTrainedModel,
    data: TrainingData,
    file: FactorFile,
    settings: FinetuneSettings,
    on_progress: Callable[[TrainingProgress], None],
    should_stop: Callable[[], bool],
) -> list[TrainingProgress]:
    switch = RotarySwitch(
        model,
        rope=file.rope,
        short_factors=file.short_factor,
        long_factors=file.long_factor,
        attention_factor=file.attention_factor,
    )
    history: list[TrainingProgress] = []
    try:
        for progress in train(model, switch, data, settings, should_stop):
            history.append(progress)
            on_progress(progress)
    finally:
        switch.close()
    model.train(False)
    return history


def _result(
    history: Sequence[TrainingProgress], settings: FinetuneSettings, file: FactorFile, output: Path
) -> FinetuneResult:
    tenth = max(1, len(history) // 10)
    head, tail = history[:tenth], history[-tenth:]
    rows = settings.long_documents_per_step + settings.short_sequences_per_step
    return FinetuneResult(
        checkpoint=output,
        steps=settings.steps,
        tokens=settings.steps * rows * file.target_length,
        initial_loss_long=fmean(progress.loss_long for progress in head),
        final_loss_long=fmean(progress.loss_long for progress in tail),
        initial_loss_short=_mean_short(head),
        final_loss_short=_mean_short(tail),
        seconds=history[-1].seconds,
    )


def _mean_short(part: Sequence[TrainingProgress]) -> float | None:
    losses = [progress.loss_short for progress in part if progress.loss_short is not None]
    return fmean(losses) if losses else None


def _device(settings: FinetuneSettings) -> torch.device:
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise InvalidFinetuneSettings("device must be one that this machine has, but got device='cuda' without CUDA")
    return torch.device("cuda" if available and settings.device != "cpu" else "cpu")


@contextlib.contextmanager
def _torch_settings(settings: FinetuneSettings) -> Iterator[None]:
    """Seed and thread count while training; both are torch's globals and are put back."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)  # dropout, where a model has any
        torch.set_num_threads(settings.threads or threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
