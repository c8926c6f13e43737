"""The settings of a fine-tuning job.

Each field's docstring gives unit and range. The defaults suit the pocket model at four times its length on one slow
core; for a model of billions of parameters the paper (arXiv 2502.20082, section 4.1) used a peak rate of 2e-5, a
batch of 64 sequences and 10 billion tokens.
"""

import math
from dataclasses import dataclass
from typing import Literal

from finetune.errors import InvalidFinetuneSettings

Device = Literal["auto", "cpu", "cuda"]

_COUNTS: tuple[tuple[str, int, int], ...] = (
    ("steps", 1, 1_000_000),
    ("warmup_steps", 0, 1_000_000),
    ("long_documents_per_step", 1, 4096),
    ("short_sequences_per_step", 0, 4096),
    ("needles_per_document", 1, 64),
    ("seed", 0, 2**32 - 1),
)
_AMOUNTS: tuple[tuple[str, float, float], ...] = (
    ("final_learning_rate_fraction", 0.0, 1.0),
    ("weight_decay", 0.0, 1.0),
    ("needle_fraction", 0.0, 1.0),
    ("answer_weight", 0.0, 1000.0),
    ("long_loss_share", 0.0, 1.0),
)
_POSITIVE: tuple[tuple[str, float], ...] = (("learning_rate", 1.0), ("clip", 1e6))


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneSettings:
    """Mixed-context-window training: what is seen per step, and how the weights follow.

    Raises InvalidFinetuneSettings on construction when a field is outside its range.
    """

    steps: int = 60
    """Optimiser steps, 1 to 1e6. Each one sees a long and a short micro-batch."""

    learning_rate: float = 1e-3
    """Peak rate of AdamW, (0, 1]."""

    warmup_steps: int = 5
    """Steps of linear rise to the peak rate, 0 to `steps`; a half cosine falls from there."""

    final_learning_rate_fraction: float = 0.05
    """Rate at the last step as a fraction of the peak, [0, 1]."""

    weight_decay: float = 0.01
    """Decoupled decay of the matrices (norms and biases have none), [0, 1]."""

    clip: float = 1.0
    """Largest global gradient norm, (0, 1e6]."""

    long_documents_per_step: int = 3
    """Documents of the target length per step, 1 to 4096, seen with the long factors."""

    short_sequences_per_step: int = 1
    """Packed sequences of the target length per step, 0 to 4096, seen with original RoPE. 0 trains on long only."""

    needle_fraction: float = 0.8
    """Share of needle documents, [0, 1], on both sides; the rest is plain text."""

    needles_per_document: int = 1
    """Needles in each needle document, 1 to 64; one of them is asked for."""

    answer_weight: float = 10.0
    """Loss weight of an answer token in a needle document, [0, 1000]; every other token weighs 1."""

    long_loss_share: float = 0.5
    """Weight of the long loss in the sum, [0, 1]; the short loss has the rest. Ignored without short sequences."""

    corpus: str | None = None
    """Where the text comes from (`evaluation.corpus`); None is the built-in one. Only its train split is used."""

    seed: int = 0
    """All randomness is derived from (seed, step), 0 to 2^32 - 1."""

    device: Device = "auto"
    """Where to train; "auto" takes a CUDA device if there is one. Runs repeat bit for bit on the CPU only."""

    threads: int | None = 1
    """CPU threads of torch while training, 1 to 1024; None leaves torch's own setting. One suits tiny models."""

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_amounts()
        if self.warmup_steps > self.steps:
            raise InvalidFinetuneSettings(
                f"warmup_steps must be at most steps, but got warmup_steps={self.warmup_steps}, steps={self.steps}"
            )
        if self.device not in ("auto", "cpu", "cuda"):
            raise InvalidFinetuneSettings(f"device must be auto, cpu or cuda, but got device={self.device!r}")

    def _check_counts(self) -> None:
        threads = () if self.threads is None else (("threads", 1, 1024),)
        for name, low, high in (*_COUNTS, *threads):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise InvalidFinetuneSettings(
                    f"{name} must be a whole number in [{low}, {high}], but got {name}={value!r}"
                )

    def _check_amounts(self) -> None:
        for name, low, high in _AMOUNTS:
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise InvalidFinetuneSettings(f"{name} must be in [{low:g}, {high:g}], but got {name}={value!r}")
        for name, high in _POSITIVE:
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 < value <= high):
                raise InvalidFinetuneSettings(f"{name} must be in (0, {high:g}], but got {name}={value!r}")

    def learning_rate_at(self, step: int) -> float:
        """Rate of optimiser step `step`, counted from 0: linear warm-up, then a half cosine to the final fraction."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - 1 - self.warmup_steps)
        floor = self.final_learning_rate_fraction
        return self.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
