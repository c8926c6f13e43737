"""A fine-tuning's input and what it reports, as values that need no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from evaluation.models.source import ModelSource
from finetune.config import FinetuneSettings
from finetune.results import FinetuneResult, TrainingProgress
from ropewalk.factors.factor_file import FactorFile


class Reporter(Protocol):
    """Receives the training's progress; called by the first worker only."""

    def began(self) -> None:
        """All workers have their places; the text is read and the model loaded next."""

    def loading(self, share: float) -> None:
        """That share of the model's tensors, 0 to 1, has been read; after each of them, so an answer is to be quick."""

    def step_done(self, progress: TrainingProgress) -> None:
        """After every step."""

    def succeeded(self, result: FinetuneResult) -> None:
        """The checkpoint is written."""

    def refused(self, error: Exception) -> None:
        """Trying again would end in the same way."""


class States(Protocol):
    """Where a training keeps what it can go on from."""

    def newest(self) -> Path | None:
        """The directory to go on from (`finetune.training_state`); None to begin."""

    def save(self, step: int, write: Callable[[Path], bool]) -> None:
        """Keep what `write` puts into the directory that it is given; it answers whether it wrote. Every worker calls
        this after the same steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerTask:
    """One fine-tuning, the same for every worker. All paths are absolute; `output` and `states` reach the same files
    everywhere, or are None where the service stores those files in another way."""

    source: ModelSource
    file: FactorFile
    settings: FinetuneSettings
    output: Path | None
    states: Path | None
    """Holds a directory for each owner that this job has had, with the states that it kept."""
    token_cache: Path
