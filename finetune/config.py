"""The settings of a fine-tuning job.

Annotations give the ranges, docstrings the units; the spec's `FinetuneOptions` takes both from here. The defaults suit
the pocket model at four times its length on one slow core; `finetune.recipes` has those for models of useful
size.

Symbols: L the original length, L' the target length, n the tokens of a skipped row. A *row* is one sequence of tokens:
`finetune.rows` says how many.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from evaluation.documents.skipping import MOST_GAPS
from finetune.errors import InvalidFinetuneSettings
from finetune.optimizers import OPTIMIZERS, OptimizerName
from ropewalk.reading.annotations import Range
from ropewalk.reading.reader import Unreadable, check

Kind = Literal["long", "middle", "short", "skipped"]
KINDS: tuple[Kind, ...] = ("long", "middle", "short", "skipped")
Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16"]
GradientCheckpointing = Literal["auto", "on", "off"]
SkippedPlaces = Literal["anywhere", "haystack"]
Sharding = Literal["none", "fsdp"]
RecipeName = Literal["auto", "pocket", "one_gpu", "paper", "published"]

_SHARE = Range(0, 1)
_TOKENS = Range(1, 2**31 - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneSettings:
    """Mixed-context-window training: what is seen per step, and how the weights follow.

    Raises InvalidFinetuneSettings on construction when a field is outside its range.
    """

    steps: Annotated[int, Range(1, 1_000_000)] = 60
    """Optimiser steps. Each one sees every kind of row, where `long_every` does not set some apart."""

    learning_rate: Annotated[float, Range(above=0, most=1)] = 1e-3
    """Peak rate of the optimiser."""

    warmup_steps: Annotated[int, Range(0, 1_000_000)] = 5
    """Steps of linear rise to the peak rate, at most `steps`; a half cosine falls from there."""

    final_learning_rate_fraction: Annotated[float, _SHARE] = 0.05
    """Rate at the last step as a fraction of the peak."""

    weight_decay: Annotated[float, _SHARE] = 0.01
    """Decoupled decay of the matrices (norms and biases have none)."""

    clip: Annotated[float, Range(above=0, most=1e6)] = 1.0
    """Largest global gradient norm."""

    long_documents_per_step: Annotated[int, Range(0, 4096)] = 3
    """Documents of L' tokens per step over all workers, seen with the long factors; 0 only beside skipped rows."""

    middle_sequences_per_step: Annotated[int, Range(0, 4096)] = 0
    """Rows per step packed from documents longer than L and shorter than L', seen with the long factors."""

    short_sequences_per_step: Annotated[int, Range(0, 4096)] = 1
    """Rows per step packed from documents of at most L tokens, seen with original RoPE."""

    short_tokens: Annotated[int, _TOKENS] | None = None
    """Tokens of a short row, from L to L'; None is L'."""

    skipped_rows_per_step: Annotated[int, Range(0, 4096)] = 0
    """Rows per step of n tokens whose positions jump forward, so that they are as far apart as in long ones; seen with
    the long factors."""

    long_every: Annotated[int, Range(1, 1_000_000)] = 1
    """Steps from one with long rows to the next one. Above 1 skipped rows, which there must be, take their place in the
    steps between, so that no step has both."""

    skipped_tokens: Annotated[int, _TOKENS] | None = None
    """n, the tokens of a skipped row; None is L."""

    skipped_gaps: Annotated[int, Range(1, MOST_GAPS)] = 4
    """Jumps in a skipped document: from one to this many, each number as often."""

    skipped_places: SkippedPlaces = "anywhere"
    """Where positions are left out: anywhere, or in the haystack alone, so that needles and questions stay whole."""

    skipped_tail_share: Annotated[float, _SHARE] = 0.0
    """Share of skipped documents whose head stands at the first positions and a short tail at the last ones, with one
    gap between them (EndPrompt, arXiv 2605.14589)."""

    skipped_tail_tokens: Annotated[int, _TOKENS] = 20
    """Tokens of the tail of plain text; in a needle document the questions are the tail."""

    skipped_reach: Annotated[int, _TOKENS] | None = None
    """Positions that skipped documents reach over at most, more than L; None is L'."""

    skipped_full_reach_share: Annotated[float, _SHARE] = 0.5
    """Share of skipped documents that reach so far; the others end at positions spread evenly from L on."""

    rows_per_pass: Annotated[int, Range(1, 4096)] = 4
    """Rows of one kind in one forward pass, at most. Fewer take less memory; the sum is the same."""

    long_loss_share: Annotated[float, _SHARE] = 0.5
    """Weight of the long loss in the sum. Shares of kinds without rows are distributed over the others."""

    middle_loss_share: Annotated[float, _SHARE] = 0.3
    """Weight of the middle loss, counted only when there are middle rows; the short loss has what is left."""

    skipped_loss_share: Annotated[float, _SHARE] = 0.5
    """Weight of the loss of skipped rows, counted only when there are such rows; they and the long ones together must
    leave something to short rows."""

    needle_fraction: Annotated[float, _SHARE] = 0.8
    """Share of needle documents of every kind; the rest is plain text."""

    needles_per_document: Annotated[int, Range(1, 64)] = 1
    """Needles in each needle document. The document ends in a question for each, and every answer weighs
    `answer_weight`."""

    answer_weight: Annotated[float, Range(0, 1000)] = 10.0
    """Loss weight of an answer token in a needle document; every other token weighs 1."""

    corpus: str | None = None
    """Where the text comes from (`evaluation.documents.corpus`); None is the built-in one. Only its train split is
    used."""

    text_repeats: Annotated[float, Range(above=0, most=1e6)] = 16.0
    """How often the same long text may be read on average; less text is refused before the start.
    The paper reads everything once; arXiv 2305.16264 finds little left to learn after about 16 times."""

    dtype: Dtype = "auto"
    """What the forward pass computes in. Weights stay float32; "auto" takes bfloat16 on CUDA devices
    that have it."""

    optimizer: OptimizerName = "adamw"
    """"adamw_8bit" keeps two bytes of each weight where AdamW keeps eight, "adafactor" next to nothing."""

    gradient_checkpointing: GradientCheckpointing = "auto"
    """Recompute activations in the backward pass; "auto" does when they would take more than `finetune.memory` says."""

    workers: Annotated[int, Range(1, 4096)] = 1
    """Data-parallel processes: one GPU each where there are any. The rows of a step are divided among them,
    so that the training is the same up to rounding."""

    sharding: Sharding = "none"
    """"fsdp" shards weights, gradients and optimiser over the workers (FSDP2): for models larger than one device."""

    checkpoint_every: Annotated[int, Range(1, 1_000_000)] = 20
    """Steps between two checkpoints to resume from."""

    lora_rank: Annotated[int, Range(0, 4096)] = 0
    """Train only LoRA adapters of this rank on all linear layers; 0 trains all weights."""

    lora_alpha: Annotated[float, Range(above=0, most=1e6)] = 16.0
    """Adapters count lora_alpha / lora_rank times."""

    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """All randomness is derived from (seed, step)."""

    device: Device = "auto"
    """Where to train; "auto" takes a CUDA device if there is one. Runs repeat bit for bit on the CPU only."""

    threads: Annotated[int, Range(1, 1024)] | None = 1
    """CPU threads of torch while training; None leaves torch's own setting. One suits tiny models."""

    def __post_init__(self) -> None:
        try:
            check(self)
        except Unreadable as error:
            name = error.pointer.removeprefix("/")
            raise InvalidFinetuneSettings(f"{name} {error.rule}, but got {name}={error.value!r}") from error
        if self.warmup_steps > self.steps:
            raise InvalidFinetuneSettings(
                f"warmup_steps must be at most steps, but got warmup_steps={self.warmup_steps}, steps={self.steps}"
            )
        if not self.long_documents_per_step + self.skipped_rows_per_step:
            raise InvalidFinetuneSettings(
                "a step must have long or skipped rows, but got long_documents_per_step=0, skipped_rows_per_step=0"
            )
        self._check_alternation()
        for step in self._unlike_steps:
            self._check_shares(step)
        self._check_workers()

    def _check_alternation(self) -> None:
        if self.long_every > self.steps:
            raise InvalidFinetuneSettings(
                f"long_every must be at most steps, but got long_every={self.long_every}, steps={self.steps}"
            )
        if self.long_every > 1 and not (self.long_documents_per_step and self.skipped_rows_per_step):
            raise InvalidFinetuneSettings(
                "long_every must be 1 without both long and skipped rows, but got "
                f"long_every={self.long_every}, long_documents_per_step={self.long_documents_per_step}, "
                f"skipped_rows_per_step={self.skipped_rows_per_step}"
            )

    def _check_shares(self, step: int) -> None:
        counted = {f"{kind}_loss_share": share for kind, share in self._shares_set.items() if self.rows_at(kind, step)}
        total = math.fsum(counted.values())
        starves = bool(self.skipped_rows_per_step and self.short_sequences_per_step and total >= 1)
        if starves or (len(counted) > 1 and total > 1):
            limit = "below 1, so that short rows count" if starves else "at most 1"
            values = ", ".join(f"{name}={share}" for name, share in counted.items())
            raise InvalidFinetuneSettings(f"{' + '.join(counted)} must be {limit}, but got {values}")

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
        if not OPTIMIZERS[self.optimizer].shards:
            raise InvalidFinetuneSettings(
                "sharding must be none with an optimiser that does not follow shards, but got "
                f"sharding='fsdp', optimizer={self.optimizer!r}"
            )
        for kind in KINDS:
            if self.rows_of(kind) % self.workers:  # every worker must take part in every forward pass
                raise InvalidFinetuneSettings(
                    f"with sharding='fsdp' the {kind} rows of a step must be a multiple of workers, but got "
                    f"{self.rows_of(kind)} rows, workers={self.workers}"
                )

    def rows_of(self, kind: Kind) -> int:
        """Rows of this kind in a step that has them, over all workers."""
        return {
            "long": self.long_documents_per_step,
            "middle": self.middle_sequences_per_step,
            "short": self.short_sequences_per_step,
            "skipped": self.skipped_rows_per_step,
        }[kind]

    def steps_with(self, kind: Kind, before: int) -> int:
        """How many of the first `before` steps have rows of this kind."""
        if not self.rows_of(kind):
            return 0
        with_long = before // self.long_every
        without = before - with_long if self.long_every > 1 else before
        return {"long": with_long, "skipped": without}.get(kind, before)

    def rows_before(self, kind: Kind, step: int) -> int:
        """Rows of this kind in all steps before `step`."""
        return self.rows_of(kind) * self.steps_with(kind, step)

    def rows_at(self, kind: Kind, step: int) -> int:
        """Rows of this kind in `step`, counted from 0."""
        return self.rows_before(kind, step + 1) - self.rows_before(kind, step)

    @property
    def rows_per_step(self) -> int:
        """Rows in one step, over all kinds and workers; where steps differ, the fewest."""
        return min(sum(self.rows_at(kind, step) for kind in KINDS) for step in self._unlike_steps)

    @property
    def _unlike_steps(self) -> tuple[int, ...]:
        """One of each sort of step: without long rows, where there are such, and with them."""
        return (0,) if self.long_every == 1 else (0, self.long_every - 1)

    def loss_share(self, kind: Kind, step: int = 0) -> float:
        """Weight of this kind's mean loss in the sum of a step; the weights of the kinds with rows add up to 1."""
        present = [other for other in KINDS if self.rows_at(other, step)]
        if kind not in present:
            return 0.0
        shares = {other: share for other, share in self._shares_set.items() if other in present}
        if "short" in present:
            left = 1.0
            for share in shares.values():
                left -= share
            shares["short"] = max(0.0, left)
        total = sum(shares.values())
        return shares[kind] / total if total > 0 else 1.0 / len(present)

    @property
    def _shares_set(self) -> dict[Kind, float]:
        return {
            "long": self.long_loss_share,
            "middle": self.middle_loss_share,
            "skipped": self.skipped_loss_share,
        }

    def learning_rate_at(self, step: int) -> float:
        """Rate of optimiser step `step`, counted from 0: linear warm-up, then a half cosine to the final fraction."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - 1 - self.warmup_steps)
        floor = self.final_learning_rate_fraction
        return self.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
