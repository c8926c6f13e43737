"""What the benchmark of rows compares: how many tokens of which rows a step has, beside one short row.

Symbols: L the original length, L' the target length, n the tokens of a skipped row. A full step has three rows of L'
tokens; the other arms are named by their long tokens over those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune.config import FinetuneSettings

ORIGINAL_LENGTH = 256  # of the pocket model and its sisters, tokens
FULL_ROWS = 3
STEPS = 120
SEEDS = (0, 1, 2)
FULL = "full"


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One row of the table.

    long_tokens: of a full step's, in skipped rows of `original_lengths` times L; full_rows: beside them, or in every
    `long_every`th step in their place. short_tokens: of a short row, over L'.
    given: further settings. rank: 0 is what is to be shown, and run first.
    """

    label: str
    full_rows: int = 0
    long_tokens: float = 0.0
    original_lengths: int = 1
    short_tokens: float = 1.0
    given: Mapping[str, Any] = field(default_factory=dict)
    rank: int = 1

    def settings(self, *, target_length: int, seed: int, device: str, steps: int = STEPS) -> FinetuneSettings:
        """Of the training: everything but the rows is the same for all arms, where they do not say otherwise."""
        tokens = self.original_lengths * ORIGINAL_LENGTH
        skipped = round(self.long_tokens * FULL_ROWS * target_length / tokens)
        together = skipped and self.full_rows and "long_every" not in self.given
        share = {"long_loss_share": 0.25, "skipped_loss_share": 0.25} if together else {}
        fields: dict[str, Any] = {
            "steps": steps,
            "long_documents_per_step": self.full_rows,
            "skipped_rows_per_step": skipped,
            "skipped_tokens": tokens,
            "short_tokens": round(self.short_tokens * target_length) if self.short_tokens < 1 else None,
            "rows_per_pass": 64 if device == "cuda" else 8,
            "seed": seed,
            "device": device,
            "dtype": "float32",
            "checkpoint_every": 1_000_000,
            **share,
            **self.given,
        }
        return FinetuneSettings(**fields)


def _skipped(label: str, long_tokens: float, rank: int = 1, *, original_lengths: int = 1, **given: object) -> Arm:
    return Arm(label=label, long_tokens=long_tokens, original_lengths=original_lengths, given=given, rank=rank)


_UNTRAINED = {"steps": 1, "warmup_steps": 0, "learning_rate": 1e-12, "weight_decay": 0.0}
"""The checkpoint as it would be exported, with the weights that it had."""


def _in_turn(
    every: int,
    skipped: int,
    rank: int = 1,
    *,
    full_rows: int = 1,
    original_lengths: int = 1,
    short_tokens: float = 1.0,
    optimizer: str = "adamw",
) -> Arm:
    """Full rows in every `every`th step, at 8L the tokens of `skipped` rows of L in EndPrompt-like ones in others."""
    long_tokens = skipped / (FULL_ROWS * 8)
    share = (full_rows / FULL_ROWS + (every - 1) * long_tokens) / every
    short = ", short / 2" if short_tokens < 1 else ""
    other = "" if optimizer == "adamw" else f", {optimizer}"
    tokens = "" if original_lengths == 1 else f" in {original_lengths}L"
    return Arm(
        label=f"{full_rows} full in {every} steps, else half to L'{tokens}, {share:.2f}{short}{other}",
        original_lengths=original_lengths,
        full_rows=full_rows,
        long_tokens=long_tokens,
        short_tokens=short_tokens,
        given={"skipped_tail_share": 1.0, "long_every": every, "optimizer": optimizer},
        rank=rank,
    )


_END_PROMPT: Mapping[str, Any] = {"skipped_tail_share": 1.0, "skipped_full_reach_share": 1.0}

ARMS: tuple[Arm, ...] = (
    Arm(label="untrained", full_rows=1, given=_UNTRAINED, rank=0),
    Arm(label=FULL, full_rows=FULL_ROWS, rank=0),
    _skipped("skipped L, 1/4", 1 / 4, 0),
    _skipped("skipped L, equal", 1, 0),
    _skipped("skipped 2L, 1/4", 1 / 4, 0, original_lengths=2),
    _skipped("skipped L, 1/8", 1 / 8),
    _skipped("EndPrompt, 1/8", 1 / 8, **_END_PROMPT),
    _skipped("EndPrompt 2L, 1/4", 1 / 4, original_lengths=2, **_END_PROMPT),
    _skipped("skipped 2L, equal", 1, original_lengths=2),
    Arm(label="full, 1/3", full_rows=1),
    Arm(label="mixed, 1/3 full + 1/4 skipped", full_rows=1, long_tokens=1 / 4),
    _skipped("EndPrompt, 1/4", 1 / 4, **_END_PROMPT),
    _skipped("EndPrompt, half to L', 1/4", 1 / 4, skipped_tail_share=1.0),
    _skipped("EndPrompt 2L, half to L', 1/4", 1 / 4, original_lengths=2, skipped_tail_share=1.0),
    _skipped("EndPrompt, any reach, 1/4", 1 / 4, skipped_tail_share=1.0, skipped_full_reach_share=0.0),
    _in_turn(2, 4, 0, short_tokens=0.5),
    _in_turn(4, 3, 0),
    _in_turn(2, 2, short_tokens=0.5),
    _in_turn(3, 5, short_tokens=0.5),
    _in_turn(3, 2),
    _in_turn(6, 5),
    _in_turn(2, 24, full_rows=FULL_ROWS),
    _in_turn(3, 1, full_rows=2, short_tokens=0.5),
    _in_turn(2, 4, original_lengths=2, short_tokens=0.5),
    _in_turn(2, 4, short_tokens=0.5, optimizer="adafactor"),
    _in_turn(2, 4, short_tokens=0.5, optimizer="adamw_8bit"),
    Arm(label="full, adafactor", full_rows=FULL_ROWS, given={"optimizer": "adafactor"}),
    _skipped("half EndPrompt, 1/4", 1 / 4, skipped_tail_share=0.5),
    _skipped("haystack, 1/4", 1 / 4, skipped_places="haystack"),
    _skipped("1 gap, 1/4", 1 / 4, skipped_gaps=1),
    _skipped("16 gaps, 1/4", 1 / 4, skipped_gaps=16),
    _skipped("all reach L', 1/4", 1 / 4, skipped_full_reach_share=1.0),
    _skipped("EndPrompt, equal", 1, 2, **_END_PROMPT),
    _skipped("EndPrompt, half to L', equal", 1, 2, skipped_tail_share=1.0),
    _skipped("haystack, equal", 1, 2, skipped_places="haystack"),
    _skipped("rate x 2, 1/4", 1 / 4, 2, learning_rate=2e-3),
    _skipped("rate / 2, 1/4", 1 / 4, 2, learning_rate=5e-4),
    _skipped("240 steps, 1/4", 1 / 4, 2, steps=240),
    _skipped("60 steps, 1/4", 1 / 4, 2, steps=60),
    _skipped("loss share .7, 1/4", 1 / 4, 2, skipped_loss_share=0.7),
    Arm(label="full, text alone", full_rows=FULL_ROWS, given={"needle_fraction": 0.0}, rank=2),
    _skipped("skipped L, 1/4, text alone", 1 / 4, 2, needle_fraction=0.0),
    _skipped("EndPrompt, 1/4, text alone", 1 / 4, 2, **_END_PROMPT, needle_fraction=0.0),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One training with what it came to; `factors` is "found" or the name of a baseline."""

    model: str
    target_length: int
    factors: str
    arm: str
    seed: int
    steps: int = STEPS

    @property
    def name(self) -> str:
        """One line, in which no two cells agree."""
        return f"{Path(self.model).name} {self.target_length} {self.factors} {self.arm} {self.seed} {self.steps}"


def cells(
    models: tuple[str, ...],
    target_lengths: tuple[int, ...],
    factors: tuple[str, ...],
    seeds: tuple[int, ...],
    arms: tuple[str, ...],
    *,
    steps: int = STEPS,
) -> list[Cell]:
    """All of them: those that are to be shown first, the seeds in turn."""
    return [
        Cell(model=model, target_length=length, factors=name, arm=arm.label, seed=seed, steps=steps)
        for rank in sorted({arm.rank for arm in ARMS})
        for length in target_lengths
        for seed in seeds
        for name in factors
        for model in models
        for arm in ARMS
        if arm.rank == rank and arm.label in arms and (seed == seeds[0] or arm.label != "untrained")
    ]


def factors_path(store: Path, model: str, target_length: int) -> Path:
    """The factor file that `find` kept for one model and target length."""
    return store / "factors" / f"{Path(model).name}-{target_length}.json"
