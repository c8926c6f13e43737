"""What a fine-tuning is told and what it tells, as values that need no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from evaluation.model_source import ModelSource
from finetune.config import FinetuneSettings
from search_space.factor_file import FactorFile

if TYPE_CHECKING:
    from finetune.job import FinetuneResult
    from finetune.training import TrainingProgress


class Reporter(Protocol):
    """Who is told how the training goes; called by the first worker only."""

    def step_done(self, progress: TrainingProgress) -> None:
        """After every step."""

    def succeeded(self, result: FinetuneResult) -> None:
        """The checkpoint is written."""

    def refused(self, error: Exception) -> None:
        """Trying again would end in the same way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerTask:
    """One fine-tuning, the same for every worker. All paths are absolute and reach the same files everywhere."""

    source: ModelSource
    file: FactorFile
    settings: FinetuneSettings
    output: Path
    states: Path
    """Holds a directory for each owner that this job has had, with the states that it kept."""
    token_cache: Path
