"""The settings of a fine-tuning job.

Each field's docstring gives unit and range. The defaults suit the pocket model at four times its length on one slow
core; `finetune.recipes` has those of the paper for models of useful size.

Symbols: L the original length, L' the target length, both in tokens. A *row* is one sequence of L' tokens.
"""

import math
from dataclasses import dataclass
from typing import Literal

from finetune.errors import InvalidFinetuneSettings

Kind = Literal["long", "middle", "short"]
KINDS: tuple[Kind, ...] = ("long", "middle", "short")
Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16"]
GradientCheckpointing = Literal["auto", "on", "off"]
Sharding = Literal["none", "fsdp"]

_COUNTS: tuple[tuple[str, int, int], ...] = (
    ("steps", 1, 1_000_000),
    ("warmup_steps", 0, 1_000_000),
    ("long_documents_per_step", 1, 4096),
    ("middle_sequences_per_step", 0, 4096),
    ("short_sequences_per_step", 0, 4096),
    ("rows_per_pass", 1, 4096),
    ("needles_per_document", 1, 64),
    ("checkpoint_every", 1, 1_000_000),
    ("workers", 1, 4096),
    ("lora_rank", 0, 4096),
    ("seed", 0, 2**32 - 1),
)
_AMOUNTS: tuple[tuple[str, float, float], ...] = (
    ("final_learning_rate_fraction", 0.0, 1.0),
    ("weight_decay", 0.0, 1.0),
    ("needle_fraction", 0.0, 1.0),
    ("answer_weight", 0.0, 1000.0),
    ("long_loss_share", 0.0, 1.0),
    ("middle_loss_share", 0.0, 1.0),
)
_POSITIVE: tuple[tuple[str, float], ...] = (
    ("learning_rate", 1.0),
    ("clip", 1e6),
    ("text_repeats", 1e6),
    ("lora_alpha", 1e6),
)
_CHOICES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("device", ("auto", "cpu", "cuda")),
    ("dtype", ("auto", "float32", "bfloat16")),
    ("gradient_checkpointing", ("auto", "on", "off")),
    ("sharding", ("none", "fsdp")),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneSettings:
    """Mixed-context-window training: what is seen per step, and how the weights follow.

    Raises InvalidFinetuneSettings on construction when a field is outside its range.
    """

    steps: int = 60
    """Optimiser steps, 1 to 1e6. Each one sees every kind of row."""

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
    """Documents of L' tokens per step over all workers, 1 to 4096, seen with the long factors."""

    middle_sequences_per_step: int = 0
    """Rows per step packed from documents longer than L and shorter than L', 0 to 4096, seen with the long factors."""

    short_sequences_per_step: int = 1
    """Rows per step packed from documents of at most L tokens, 0 to 4096, seen with original RoPE."""

    rows_per_pass: int = 4
    """Rows of one kind in one forward pass, at most, 1 to 4096. Fewer take less memory; the sum is the same."""

    long_loss_share: float = 0.5
    """Weight of the long loss in the sum, [0, 1]. Shares of kinds without rows are distributed over the others."""

    middle_loss_share: float = 0.3
    """Weight of the middle loss, [0, 1], counted only when there are middle rows; the short loss has what is left."""

    needle_fraction: float = 0.8
    """Share of needle documents, [0, 1], of every kind; the rest is plain text."""

    needles_per_document: int = 1
    """Needles in each needle document, 1 to 64. The document ends in a question for each, and every answer weighs
    `answer_weight`."""

    answer_weight: float = 10.0
    """Loss weight of an answer token in a needle document, [0, 1000]; every other token weighs 1."""

    corpus: str | None = None
    """Where the text comes from (`evaluation.documents.corpus`); None is the built-in one. Only its train split is
    used."""

    text_repeats: float = 16.0
    """How often the same long text may be read on average, (0, 1e6]; less text is refused before the start.
    The paper reads everything once; arXiv 2305.16264 finds little left to learn after about 16 times."""

    dtype: Dtype = "auto"
    """What the forward pass computes in. Weights and optimiser stay float32; "auto" takes bfloat16 on CUDA devices
    that have it."""

    gradient_checkpointing: GradientCheckpointing = "auto"
    """Recompute activations in the backward pass; "auto" does when they would take more than `finetune.memory` says."""

    workers: int = 1
    """Data-parallel processes, 1 to 4096: one GPU each where there are any. The rows of a step are divided among them,
    so that the training is the same up to rounding."""

    sharding: Sharding = "none"
    """"fsdp" shards weights, gradients and optimiser over the workers (FSDP2): for models larger than one device."""

    checkpoint_every: int = 20
    """Steps between two checkpoints to resume from, 1 to 1e6."""

    lora_rank: int = 0
    """Train only LoRA adapters of this rank on all linear layers, 1 to 4096; 0 trains all weights."""

    lora_alpha: float = 16.0
    """Adapters count lora_alpha / lora_rank times, (0, 1e6]."""

    seed: int = 0
    """All randomness is derived from (seed, step), 0 to 2^32 - 1."""

    device: Device = "auto"
    """Where to train; "auto" takes a CUDA device if there is one. Runs repeat bit for bit on the CPU only."""

    threads: int | None = 1
    """CPU threads of torch while training, 1 to 1024; None leaves torch's own setting. One suits tiny models."""

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_amounts()
        self._check_choices()
        if self.warmup_steps > self.steps:
            raise InvalidFinetuneSettings(
                f"warmup_steps must be at most steps, but got warmup_steps={self.warmup_steps}, steps={self.steps}"
            )
        if self.middle_sequences_per_step and self.long_loss_share + self.middle_loss_share > 1:
            raise InvalidFinetuneSettings(
                "long_loss_share + middle_loss_share must be at most 1, but got "
                f"long_loss_share={self.long_loss_share}, middle_loss_share={self.middle_loss_share}"
            )
        self._check_workers()

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

    def _check_choices(self) -> None:
        for name, choices in _CHOICES:
            value = getattr(self, name)
            if value not in choices:
                raise InvalidFinetuneSettings(f"{name} must be one of {', '.join(choices)}, but got {name}={value!r}")

    def _check_workers(self) -> None:
        if self.workers > self.rows_per_step:
            raise InvalidFinetuneSettings(
                f"workers must be at most the rows of a step, {self.rows_per_step}, but got workers={self.workers}"
            )
        if self.sharding == "none":
            return
        if self.lora_rank:
            raise InvalidFinetuneSettings(
                f"sharding must be none when adapters are trained, but got sharding='fsdp', lora_rank={self.lora_rank}"
            )
        for kind in KINDS:
            if self.rows_of(kind) % self.workers:  # every worker must take part in every forward pass
                raise InvalidFinetuneSettings(
                    f"with sharding='fsdp' the {kind} rows of a step must be a multiple of workers, but got "
                    f"{self.rows_of(kind)} rows, workers={self.workers}"
                )

    def rows_of(self, kind: Kind) -> int:
        """Rows of L' tokens of this kind in one step, over all workers."""
        return {
            "long": self.long_documents_per_step,
            "middle": self.middle_sequences_per_step,
            "short": self.short_sequences_per_step,
        }[kind]

    @property
    def rows_per_step(self) -> int:
        """Rows of L' tokens in one step, over all kinds and workers."""
        return sum(self.rows_of(kind) for kind in KINDS)

    def loss_share(self, kind: Kind) -> float:
        """Weight of this kind's mean loss in the sum; the weights of the kinds with rows add up to 1."""
        middle = self.middle_loss_share if self.middle_sequences_per_step else 0.0
        shares: dict[Kind, float] = {
            "long": self.long_loss_share,
            "middle": middle,
            "short": max(0.0, 1.0 - self.long_loss_share - middle),
        }
        present = [other for other in KINDS if self.rows_of(other)]
        total = sum(shares[other] for other in present)
        if kind not in present:
            return 0.0
        return shares[kind] / total if total > 0 else 1.0 / len(present)

    def learning_rate_at(self, step: int) -> float:
        """Rate of optimiser step `step`, counted from 0: linear warm-up, then a half cosine to the final fraction."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - 1 - self.warmup_steps)
        floor = self.final_learning_rate_fraction
        return self.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
