"""What a training needs to go on where it was, bit for bit: weights, optimiser, random state, step.

A directory holds two files per worker that has something of its own (all of them when the model is sharded, else the
first one), in safetensors and JSON, so that reading one runs no code:

    rank-R.safetensors   weights that are trained, what the optimiser keeps of each, random state
    rank-R.json          which training, the step, the losses so far, and size and sha256 of the other file
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from evaluation.models.source import ModelSource, config_sha256, model_sha256
from finetune.config import KINDS, FinetuneSettings, Kind
from finetune.errors import CannotResume
from finetune.optimizers import set_rate
from finetune.parallel import local_part
from finetune.results import TrainingProgress
from finetune.training import Trainee
from ropewalk.factors.factor_file import FactorFile

FORMAT = "ropewalk.training/1"
# What may differ between the two halves of one training.
_FREE_SETTINGS = ("checkpoint_every", "threads", "device", "gradient_checkpointing", "rows_per_pass")


@dataclass(kw_only=True, slots=True)
class Losses:
    """Sums of each kind's losses over the first and the last tenth of the steps; those of single steps are noisy."""

    settings: FinetuneSettings
    initial: dict[Kind, float] = field(default_factory=dict)
    final: dict[Kind, float] = field(default_factory=dict)

    @property
    def tenth(self) -> int:
        """Steps that each sum is over; so many that each kind is in one of them."""
        return max(self.settings.long_every, self.settings.steps // 10)

    def add(self, progress: TrainingProgress) -> None:
        """Take one step into account."""
        for kind in KINDS:
            loss = progress.loss(kind)
            if loss is not None and progress.step <= self.tenth:
                self.initial[kind] = self.initial.get(kind, 0.0) + loss
            if loss is not None and progress.step > self.settings.steps - self.tenth:
                self.final[kind] = self.final.get(kind, 0.0) + loss

    def initial_mean(self, kind: Kind) -> float | None:
        """Over the first tenth of the steps; None without rows of this kind."""
        return self._mean(self.initial, kind, 0)

    def final_mean(self, kind: Kind) -> float | None:
        """Over the last tenth of the steps; None without rows of this kind."""
        return self._mean(self.final, kind, self.settings.steps - self.tenth)

    def _mean(self, sums: dict[Kind, float], kind: Kind, first: int) -> float | None:
        counted = self.settings.steps_with(kind, first + self.tenth) - self.settings.steps_with(kind, first)
        return sums[kind] / counted if kind in sums else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumed:
    """Where a training goes on."""

    step: int
    """Steps that are done."""
    seconds: float
    losses: Losses


def recipe_sha256(source: ModelSource, file: FactorFile, settings: FinetuneSettings, *, text_sha256: str) -> str:
    """sha256 of all that decides the weights at every step: the model's weights and config, the factors, the settings,
    and by `text_sha256` (`TokenStore.sha256`) what the corpus holds, not only where it lies, and the tokenizer.
    """
    given = {key: value for key, value in dataclasses.asdict(settings).items() if key not in _FREE_SETTINGS}
    # What decides nothing here is not in it: trainings from before there were skipped rows go on.
    if not settings.skipped_rows_per_step:
        given = {key: value for key, value in given.items() if not key.startswith("skipped_")}
    if settings.short_tokens is None:
        del given["short_tokens"]
    if settings.long_every == 1:
        del given["long_every"]
    if settings.optimizer == "adamw":
        del given["optimizer"]
    factors = {
        "short": file.short_factor.values,
        "long": file.long_factor.values,
        "attention": file.attention_factor,
        "lengths": (file.original_max_position_embeddings, file.target_length),
    }
    described = {
        "format": FORMAT,
        "model": model_sha256(source),
        "config": config_sha256(source),
        "text": text_sha256,
        "settings": given,
        "factors": factors,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def save_state(directory: Path, trainee: Trainee, *, recipe: str, progress: TrainingProgress, losses: Losses) -> bool:
    """Write this worker's part into `directory`; false when it has none. Raises OSError when the disk is full."""
    if not (trainee.ranks.is_first or trainee.sharded):
        return False
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in _tensors(trainee)}
    tensors["random.cpu"] = torch.get_rng_state()
    if trainee.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(trainee.device)
    weights = directory / f"rank-{trainee.ranks.rank}.safetensors"
    save_file(tensors, weights)
    described = {
        "format": FORMAT,
        "recipe": recipe,
        "workers": trainee.ranks.world if trainee.sharded else 1,
        "step": progress.step,
        "seconds": progress.seconds,
        "counts": {name: state[key] for name, state, key in _counts(trainee)},
        "initial": losses.initial,
        "final": losses.final,
        "bytes": weights.stat().st_size,
        "sha256": _sha256(weights),
    }
    (directory / f"rank-{trainee.ranks.rank}.json").write_text(json.dumps(described), encoding="utf-8")
    return True


def restore_state(directory: Path, trainee: Trainee, *, recipe: str) -> Resumed:
    """Put weights, optimiser and random state back.

    Raises:
        CannotResume: the directory is of another training, or not whole.
    """
    rank = trainee.ranks.rank if trainee.sharded else 0
    described = _described(directory, rank)
    if described is None or described["recipe"] != recipe:
        raise CannotResume(
            "a training must be resumed with its own model, tokenizer, corpus, factors and settings, "
            f"but got {directory}"
        )
    workers = trainee.ranks.world if trainee.sharded else 1
    if described["workers"] != workers:
        raise CannotResume(
            f"a sharded training must be resumed by as many workers as it had, {described['workers']}, "
            f"but got workers={workers}"
        )
    saved = load_file(directory / f"rank-{rank}.safetensors")
    _make_optimizer_state(trainee, saved)
    with torch.no_grad():
        for name, tensor in _tensors(trainee):
            tensor.copy_(saved[name])
    for name, state, key in _counts(trainee):
        state[key] = described["counts"][name]
    torch.set_rng_state(saved["random.cpu"])
    if trainee.device.type == "cuda":
        torch.cuda.set_rng_state(saved["random.cuda"], trainee.device)
    losses = Losses(
        settings=trainee.settings, initial=_by_kind(described["initial"]), final=_by_kind(described["final"])
    )
    return Resumed(step=described["step"], seconds=described["seconds"], losses=losses)


def newest_state(directories: Iterator[Path] | list[Path]) -> Path | None:
    """Of the directories that are whole the one with the most steps done."""
    found = [(step, directory) for directory in directories if (step := _whole_step(directory)) is not None]
    return max(found)[1] if found else None


def _whole_step(directory: Path) -> int | None:
    first = _described(directory, 0)
    if first is None or any(_described(directory, rank) is None for rank in range(1, first["workers"])):
        return None
    return int(first["step"])


def _described(directory: Path, rank: int) -> dict[str, Any] | None:
    """What one worker wrote; None when its part is missing or not whole."""
    try:
        text = (directory / f"rank-{rank}.json").read_bytes()
        size = (directory / f"rank-{rank}.safetensors").stat().st_size
    except OSError:
        return None
    return read_part(text, size)


def read_part(text: bytes, size: int | None) -> dict[str, Any] | None:
    """The description `text` of a worker's part whose weights have `size` bytes, or None where they are not there; None
    when the part is not whole."""
    try:
        described = json.loads(text)
    except ValueError:
        return None
    is_whole = isinstance(described, dict) and described.get("format") == FORMAT and described["bytes"] == size
    return described if is_whole else None


def is_intact(directory: Path, rank: int) -> bool:
    """Whether a worker's part is what was written, by its checksum; one of before there were checksums by its size."""
    described = _described(directory, rank)
    if described is None:
        return False
    return described.get("sha256") in (None, _sha256(directory / f"rank-{rank}.safetensors"))


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _tensors(trainee: Trainee) -> Iterator[tuple[str, torch.Tensor]]:
    """This worker's part of everything that a step changes, sharing memory with what is in use. A table that many
    weights' moments are read by is there once."""
    for name, parameter in trainee.loss.named_parameters():
        if parameter.requires_grad:
            yield f"weights.{name}", local_part(parameter)
    seen: set[int] = set()
    for name, state in _optimizer_states(trainee):
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and local_part(value).data_ptr() not in seen:
                seen.add(local_part(value).data_ptr())
                yield f"optimizer.{name}.{key}", local_part(value)


def _counts(trainee: Trainee) -> Iterator[tuple[str, dict[str, Any], str]]:
    """What the optimiser keeps as plain numbers: a name, the state that it is in, and where there."""
    for name, state in _optimizer_states(trainee):
        yield from ((f"{name}.{key}", state, key) for key, value in state.items() if isinstance(value, int | float))


def _optimizer_states(trainee: Trainee) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, parameter in trainee.loss.named_parameters():
        if parameter.requires_grad:
            yield name, trainee.optimizer.state[parameter]


def _make_optimizer_state(trainee: Trainee, saved: Mapping[str, torch.Tensor]) -> None:
    """Have the optimiser make what it keeps of the weights that it has seen gradients of, to be written over: torch's
    make it at their first step, which is one of rate zero here."""
    for name, parameter in trainee.loss.named_parameters():
        if any(key.startswith(f"optimizer.{name}.") for key in saved):
            parameter.grad = torch.zeros_like(parameter)
    set_rate(trainee.optimizer, 0.0)
    trainee.optimizer.step()
    trainee.optimizer.zero_grad(set_to_none=True)


def _by_kind(value: Mapping[str, float]) -> dict[Kind, float]:
    return {kind: value[kind] for kind in KINDS if kind in value and math.isfinite(value[kind])}
