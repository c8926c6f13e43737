"""What the benchmark of extensions compares, what it measures, and where it keeps that."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks.extend.stability import Stability
from benchmarks.measuring import Measured
from benchmarks.search.pocket_scorer import ORIGINAL_LENGTH
from service.ablations.cells import write_whole
from service.searches.model import PreparedModel, prepare_model

LENGTHS = (ORIGINAL_LENGTH, 1024, 2048)
SEEDS = (0, 1, 2)
HELD_OUT = 200
WINDOWS = 60
HELD_OUT_SEED = 10_000  # searches draw their documents with their own seeds
SEARCHED = ("needles", "text")
RECIPE: Mapping[str, Any] = {"steps": 120}
"""Beside the defaults of `finetune/config.py`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One row of the table."""

    label: str
    about: str
    factors: str
    """What the search behind them minimises (SEARCHED), or the name of a baseline."""
    trained: Mapping[str, Any] | None = None
    """Settings beside RECIPE; None is no training."""
    rank: int = 1
    """0: what was to be shown, and run first; 2: run last."""

    @property
    def is_one_number(self) -> bool:
        """Whether no seed changes it."""
        return self.trained is None and self.factors not in SEARCHED


EXTENDED = "found, mixed"
ARMS: tuple[Arm, ...] = (
    Arm(label="base", about="the model as it is", factors="none", rank=0),
    Arm(label="found", about="searched by needle NLL, not trained", factors="needles", rank=0),
    Arm(label=EXTENDED, about="the same, then mixed training", factors="needles", trained={}, rank=0),
    Arm(label="found, 60 steps", about="half as long", factors="needles", trained={"steps": 60}),
    Arm(label="YaRN, mixed", about="with its own attention factor", factors="yarn", trained={}),
    Arm(label="NTK, mixed", about="attention factor 1", factors="ntk", trained={}),
    Arm(
        label="found, long only",
        about="as many rows, none of them short",
        factors="needles",
        trained={"long_documents_per_step": 4, "short_sequences_per_step": 0},
    ),
    Arm(label="found by text", about="searched by NLL of all tokens of plain text, not trained", factors="text"),
    Arm(label="found by text, mixed", about="the same, then mixed training", factors="text", trained={}),
    Arm(label="none, mixed", about="original RoPE, mixed training", factors="none", trained={}, rank=2),
    Arm(label="YaRN", about="not trained", factors="yarn"),
    Arm(label="NTK", about="not trained", factors="ntk"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What the training took. wall_seconds depends on who else computed; cpu_seconds are those of this process."""

    steps: int
    tokens: int
    wall_seconds: float
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One arm with one seed."""

    long_factor: tuple[float, ...]
    attention_factor: float
    measured: tuple[Measured, ...]
    training: Training | None = None
    stability: Stability | None = None
    """Of the extended model alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """Where things are kept; the model that is extended, "pocket" or a directory trained as it was; and how far."""

    store: Path
    model: str = "pocket"
    target_length: int = LENGTHS[-1]

    @property
    def label(self) -> str:
        """What files and headings call it."""
        name = Path(self.model).name
        return name if self.target_length == LENGTHS[-1] else f"{name} {self.target_length}"

    @property
    def lengths(self) -> tuple[int, ...]:
        """What is measured."""
        return tuple(length for length in LENGTHS if length <= self.target_length)

    def file(self, folder: str, name: str) -> Path:
        """A file for `name` in `folder`, which is there."""
        safe = "".join(c if c.isalnum() else "-" for c in f"{self.label} {name}")
        path = self.store / folder / safe
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def prepared(self) -> PreparedModel:
        """The model with its documents."""
        return _prepared(self.model, self.target_length)


@functools.cache
def _prepared(model: str, target_length: int) -> PreparedModel:
    return prepare_model(model, corpus=None, target_length=target_length)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One arm with one seed on one model."""

    arm: Arm
    seed: int
    bench: Bench

    @property
    def path(self) -> Path:
        """Where its outcome is kept."""
        return self.bench.file("cells", f"{self.arm.label} {self.seed}").with_suffix(".json")

    def load(self) -> Outcome | None:
        """What it came to; None when it was not run."""
        return TypeAdapter(Outcome).validate_json(self.path.read_text(encoding="utf-8")) if self.path.exists() else None


def cells(arms: Sequence[str], seeds: Sequence[int], benches: Sequence[Bench]) -> list[Cell]:
    """Every cell, the most telling first; arms that no seed changes have the first of SEEDS."""
    chosen = [arm for arm in ARMS if arm.label in arms]
    ranks = ([arm for arm in chosen if arm.rank == rank] for rank in range(3))
    return [
        Cell(arm=arm, seed=seed, bench=bench)
        for rank in ranks
        for bench in benches
        for seed in dict.fromkeys((SEEDS[0], *seeds))
        for arm in rank
        if (seed == SEEDS[0] if arm.is_one_number else seed in seeds)
    ]


def write_outcome(cell: Cell, outcome: Outcome) -> None:
    """Keep what a cell came to."""
    write_whole(cell.path, TypeAdapter(Outcome).dump_json(outcome).decode())
