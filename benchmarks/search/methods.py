"""The searches that are compared, and what is kept of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropewalk.rope.attention import longrope_attention_factor
from service.specs.search import SearchSpec

ORIGINAL_LENGTH = 256
LENGTHS = (1024, 2048)
SEEDS = (0, 1, 2, 3, 4)
HELD_OUT = 400
HELD_OUT_SEED = 10_000  # searches draw their documents with their own seeds, 0 to 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """One row of the table: a search spec less model, length and seed."""

    label: str
    about: str
    strategy: Mapping[str, Any]
    attention_factor: float | str = "search"  # "longrope": sqrt(1 + ln s / ln L)
    documents: int = 24
    needles: int = 1
    skipped: Mapping[str, Any] | None = None  # the spec's `objective.skipped`
    max_passes: int | None = None
    validates: bool = False
    held_out: int = HELD_OUT

    def spec(self, model: str, length: int, seed: int) -> SearchSpec:
        """The search of this method."""
        factor = self.attention_factor
        if factor == "longrope":
            factor = longrope_attention_factor(length / ORIGINAL_LENGTH, ORIGINAL_LENGTH)
        return SearchSpec.model_validate(
            {
                "model": model,
                "target_length": length,
                "objective": {
                    "documents": self.documents,
                    "needles_per_document": self.needles,
                    # Two are the fewest that a search can have: what it makes of them is not looked at.
                    **({} if self.validates else {"validation_documents": 2}),
                    "skipped": None if self.skipped is None else dict(self.skipped),
                },
                "strategy": dict(self.strategy),
                "budget": {"max_document_passes": self.max_passes},
                "scorer": {"attention_factor": factor},
                "seed": seed,
            }
        )


def _auto(label: str, about: str, **changes: Any) -> Method:
    """The default strategy with one ingredient changed, at equal passes."""
    fields = {"attention_factor": "search", "documents": 24, "needles": 1, **changes}
    strategy = {"name": "auto", **fields.pop("strategy", {})}
    return Method(label=label, about=about, strategy=strategy, max_passes=400, held_out=200, **fields)


_REFERENCE = {"name": "evolution"}
_OPTUNA = {"name": "optuna", "candidates": 46}

METHODS: tuple[Method, ...] = (
    Method(
        label="auto",
        about="the default, with its validation",
        strategy={"name": "auto"},
        validates=True,
    ),
    Method(
        label="two kinds",
        about="the default on documents of L tokens with two gaps, then on full ones; with its validation",
        strategy={"name": "auto"},
        skipped={"gaps": 2},
        validates=True,
    ),
    Method(
        label="two kinds, 2L",
        about="the same on documents of 2L tokens with one gap",
        strategy={"name": "auto"},
        skipped={"tokens": 2 * ORIGINAL_LENGTH, "gaps": 1},
        validates=True,
    ),
    Method(
        label="16 shapes", about="16 shapes to begin with", strategy={"name": "auto", "startup": 16}, validates=True
    ),
    Method(label="reference A=1", about="the paper's", strategy=_REFERENCE, attention_factor=1.0, documents=10),
    Method(
        label="reference su",
        about="the paper's at the released code's attention factor",
        strategy=_REFERENCE,
        attention_factor="longrope",
        documents=10,
    ),
    Method(label="TPE", about="Optuna's TPESampler", strategy={**_OPTUNA, "sampler": "TPESampler"}),
    Method(label="CMA-ES", about="Optuna's CmaEsSampler", strategy={**_OPTUNA, "sampler": "CmaEsSampler"}),
    Method(label="GP", about="Optuna's GPSampler", strategy={**_OPTUNA, "sampler": "GPSampler"}),
    Method(label="random", about="Optuna's RandomSampler", strategy={**_OPTUNA, "sampler": "RandomSampler"}),
    Method(label="gradient", about="descent on fresh documents", strategy={"name": "gradient"}),
    Method(
        label="large budget",
        about="the default with all it could ask for: how low it can go",
        strategy={
            "name": "auto",
            "startup": 64,
            "batch": 16,
            "generations": 40,
            "first_documents": 16,
            "leaders": 8,
            "min_gain": 0.0,
        },
        documents=200,
        max_passes=8000,
    ),
    _auto("auto-400", "the default, 400 passes, no validation"),
    _auto("no attention gene", "attention factor 1", attention_factor=1.0),
    _auto("su attention factor", "sqrt(1 + ln s / ln L) instead of a gene", attention_factor="longrope"),
    _auto("no surrogate", "shapes drawn evenly", strategy={"surrogate": "none"}),
    _auto("no race", "every shape on all 24 documents: 6 of them", strategy={"race": False, "startup": 6}),
    _auto("8 first documents", "new shapes start on 8 documents", strategy={"first_documents": 8}),
    _auto("2 first documents", "new shapes start on 2 documents", strategy={"first_documents": 2}),
    _auto("fresh documents", "each generation on documents of its own", strategy={"fresh_documents": True}),
    _auto("64 documents", "leaders go on to 64 documents", documents=64),
    _auto("2 needles", "two needles in each document", needles=2),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Returned:
    """What a strategy would return after `passes` of `tokens`, and its NLL on held-out documents, nats per token by
    document.

    kind: "checkpoint", "before validation", "final", or "bred only" (the reference without the baselines beside it).
    """

    passes: int
    tokens: int
    kind: str
    origin: str
    long_factor: tuple[float, ...]
    attention_factor: float
    search_nll: float | None = None
    verdict: str | None = None
    held_out: tuple[float, ...] = ()
    exact_match: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One search of the benchmark, or the baselines of one length (method "baselines")."""

    model: str
    method: str
    length: int
    seed: int

    def path(self, store: Path) -> Path:
        """Where its outcome is kept."""
        model, method = (_plain(text) for text in (Path(self.model).name, self.method))
        return store / "cells" / model / f"{self.length}-{method}-{self.seed}.json"


def _plain(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text)
