"""One fine-tuning job: a model and a factor file in, a `longrope` checkpoint out.

LongRoPE2 (arXiv 2502.20082, section 3.3), mixed-context-window training. Each step sees documents of at most the
original length L, packed and kept apart, with original RoPE; and longer ones, up to the target length L', with the
found factors.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from evaluation.documents.corpus import load_corpus
from evaluation.models.source import ModelSource, load_tokenizer
from finetune.adapters import add_adapters, hold_frozen, write_adapter
from finetune.config import FinetuneSettings
from finetune.data import TrainingData
from finetune.errors import InvalidFinetuneSettings, ModelNotTrainable
from finetune.language_model import LanguageModelLoss, load_model
from finetune.memory import ModelSize, available_bytes, check_memory, estimate, use_checkpointing
from finetune.optimizers import make_optimizer
from finetune.output.checkpoint import check_output, check_output_config, write_checkpoint
from finetune.output.fitting import check_fits
from finetune.output.model_card import model_card
from finetune.parallel import current_ranks, shard, whole
from finetune.results import FinetuneResult, TrainingProgress
from finetune.rotary import RotarySwitch
from finetune.rows import training_tokens
from finetune.token_store import open_token_store
from finetune.training import Trainee, train
from finetune.training_state import Losses, Resumed, recipe_sha256, restore_state, save_state
from finetune.worker_task import States
from ropewalk.factors.exports.hf import switch_length
from ropewalk.factors.factor_file import FactorFile


class NoStates:
    """A training that always begins at its first step."""

    def newest(self) -> Path | None:
        """Never any."""
        return None

    def save(self, step: int, write: Callable[[Path], bool]) -> None:
        """Keeps nothing."""


def run_finetune(
    source: ModelSource,
    file: FactorFile,
    settings: FinetuneSettings,
    output: Path,
    on_progress: Callable[[TrainingProgress], None],
    *,
    should_stop: Callable[[], bool] = lambda: False,
    states: States | None = None,
    token_cache: Path | None = None,
) -> FinetuneResult:
    """Train `source` with the factors of `file` and write the checkpoint to `output`, a new or empty directory.

    Every process of torch's process group, where there is one, calls this with the same arguments; the first one
    writes. `on_progress` is called after every step, in this thread; an exception from it ends the job. The same
    arguments give the same weights, bit for bit, on one CPU type with one number of threads and workers, interrupted
    or not. Nothing is written to `output` before the last step; `token_cache` keeps the corpus's tokens for later jobs.

    Raises FactorsDoNotFit, OutputNotEmpty, ModelNotTrainable, NotEnoughMemory, CannotResume and InvalidFinetuneSettings
    (a device that is not there) before the first step; TrainingStopped and TrainingDiverged from it; the errors of
    `evaluation` for the corpus, the tokenizer and the documents.
    """
    check_output(output)
    check_fits(source, file)
    device = _device(settings)
    dtype = training_dtype(settings, device)
    data = _training_data(source, file, settings, token_cache)
    states = states or NoStates()
    with _torch_settings(settings):
        model = load_model(source.path, dtype=None if settings.sharding == "fsdp" else torch.float32)
        check_output_config(model, source, file)
        adapted = add_adapters(model, settings) if settings.lora_rank else None
        with _trainee(model, data, file, settings, device, dtype) as trainee:
            recipe = recipe_sha256(source, file, settings, text_sha256=data.text_sha256)
            resumed = _train(trainee, states, recipe, on_progress, should_stop)
        result = _result(resumed, settings, file, output)
        card = model_card(source, file, settings, result)
        _write(trainee, adapted, source=source, file=file, card=card, output=output)
    return result


def check_sharding(loss: LanguageModelLoss, settings: FinetuneSettings) -> None:
    """Raise ModelNotTrainable where workers would make different numbers of passes over weights that they share."""
    if settings.sharding == "fsdp" and not loss.packs:
        raise ModelNotTrainable(
            "the model's documents must be packed to train with sharding='fsdp', but "
            f"{type(loss.model).__name__} mixes packed documents and reads each alone: leave sharding out"
        )


def training_dtype(settings: FinetuneSettings, device: torch.device) -> torch.dtype:
    """What the forward pass computes in. Raises InvalidFinetuneSettings for a device without bfloat16."""
    has_bfloat16 = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if settings.dtype == "bfloat16" and not has_bfloat16:
        raise InvalidFinetuneSettings("dtype must be one that the device has, but got dtype='bfloat16' without it")
    if settings.dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" and has_bfloat16 else torch.float32
    return torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32


def _training_data(
    source: ModelSource, file: FactorFile, settings: FinetuneSettings, token_cache: Path | None
) -> TrainingData:
    tokenizer = load_tokenizer(source)
    corpus = load_corpus(settings.corpus)
    return TrainingData(
        tokenizer,
        corpus,
        open_token_store(tokenizer, corpus, settings.corpus, token_cache),
        original_length=switch_length(file),  # what is short is what the exported model will take for it
        target_length=file.target_length,
        settings=settings,
    )


@contextlib.contextmanager
def _trainee(
    model: Any,
    data: TrainingData,
    file: FactorFile,
    settings: FinetuneSettings,
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[Trainee]:
    """Model, optimiser and rotary switch, on the device and sharded as the settings say."""
    loss = LanguageModelLoss(model)
    loss.check()
    check_sharding(loss, settings)
    if _checkpoints(loss, settings, file, device, dtype):
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if settings.lora_rank:
        hold_frozen(model, dtype)
    switch = RotarySwitch(model, rope=file.rope, scaling=file.scaling, switch_length=switch_length(file))
    try:
        if settings.sharding == "fsdp":
            shard(loss, loss.layers, device=device, dtype=dtype)
        loss.to(device=device)
        yield Trainee(
            loss=loss,
            optimizer=make_optimizer(
                settings.optimizer, loss, rate=settings.learning_rate, weight_decay=settings.weight_decay
            ),
            switch=switch,
            data=data,
            settings=settings,
            dtype=dtype,
            ranks=current_ranks(),
            sharded=settings.sharding == "fsdp",
        )
    finally:
        switch.close()
    model.train(False)


def _checkpoints(
    loss: LanguageModelLoss, settings: FinetuneSettings, file: FactorFile, device: torch.device, dtype: torch.dtype
) -> bool:
    """Whether activations are recomputed; raises NotEnoughMemory when the training does not fit either way."""
    size = ModelSize.of(loss.model, unfused_heads=loss.attention_heads)
    original, target, number = switch_length(file), file.target_length, dtype.itemsize
    checkpointing = use_checkpointing(
        size,
        settings,
        original_length=original,
        target_length=target,
        number_bytes=number,
        possible=loss.model.supports_gradient_checkpointing,
    )
    needed = estimate(
        size,
        settings,
        original_length=original,
        target_length=target,
        number_bytes=number,
        checkpointing=checkpointing,
    )
    check_memory(needed, available=available_bytes(device), target_length=target)
    return checkpointing


def _train(
    trainee: Trainee,
    states: States,
    recipe: str,
    on_progress: Callable[[TrainingProgress], None],
    should_stop: Callable[[], bool],
) -> Resumed:
    """Go on from the newest state to the last step; returns where that is."""
    settings = trainee.settings
    newest = states.newest()
    if newest is None:
        at = Resumed(step=0, seconds=0.0, losses=Losses(settings=settings))
    else:
        at = restore_state(newest, trainee, recipe=recipe)
    losses, seconds = at.losses, at.seconds
    for progress in train(trainee, should_stop, first_step=at.step, seconds=at.seconds):
        losses.add(progress)
        seconds = progress.seconds
        on_progress(progress)
        if progress.step % settings.checkpoint_every == 0 and progress.step < settings.steps:
            _save(trainee, states, recipe, progress, losses)
    return Resumed(step=settings.steps, seconds=seconds, losses=losses)


def _save(trainee: Trainee, states: States, recipe: str, progress: TrainingProgress, losses: Losses) -> None:
    states.save(
        progress.step,
        lambda directory: save_state(directory, trainee, recipe=recipe, progress=progress, losses=losses),
    )


def _write(trainee: Trainee, adapted: Any, *, source: ModelSource, file: FactorFile, card: str, output: Path) -> None:
    model = trainee.loss.model
    # By named_parameters, so that weights that are tied are gathered and written once.
    weights = {name: whole(part).detach().cpu() for name, part in model.named_parameters()} if trainee.sharded else None
    if not trainee.ranks.is_first:
        return
    if adapted is not None:
        write_adapter(adapted, source=source, file=file, model_card=card, output=output)
    else:
        write_checkpoint(model, source=source, file=file, model_card=card, output=output, weights=weights)


def _result(at: Resumed, settings: FinetuneSettings, file: FactorFile, output: Path) -> FinetuneResult:
    initial, final = at.losses.initial_mean, at.losses.final_mean
    return FinetuneResult(
        checkpoint=output,
        steps=settings.steps,
        tokens=training_tokens(
            settings, settings.steps, original_length=switch_length(file), target_length=file.target_length
        ),
        initial_loss_long=initial("long"),
        final_loss_long=final("long"),
        initial_loss_middle=initial("middle"),
        final_loss_middle=final("middle"),
        initial_loss_short=initial("short"),
        final_loss_short=final("short"),
        initial_loss_skipped=initial("skipped"),
        final_loss_skipped=final("skipped"),
        seconds=at.seconds,
    )


def _device(settings: FinetuneSettings) -> torch.device:
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise InvalidFinetuneSettings("device must be one that this machine has, but got device='cuda' without CUDA")
    if available and settings.device != "cpu":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


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
