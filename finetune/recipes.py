"""Settings to start from: of the pocket model, of one GPU, of the paper, or of what its authors released.

Symbols: L the original length, L' the target length.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from evaluation.models.source import ModelSource
from finetune.config import FinetuneSettings, Kind, RecipeName

POCKET_PARAMETERS = 10_000_000
"""Models with fewer weights than this are taught by "auto" as the pocket model is."""

_MOST_GAPS = 4

ROWS_FIELDS: Mapping[Kind, str] = {
    "long": "long_documents_per_step",
    "middle": "middle_sequences_per_step",
    "short": "short_sequences_per_step",
    "skipped": "skipped_rows_per_step",
}
"""The field of FinetuneSettings that says how many rows of a kind a step has."""
_SHARE_FIELDS: Mapping[Kind, str] = {
    "long": "long_loss_share",
    "middle": "middle_loss_share",
    "skipped": "skipped_loss_share",
}
_PLAIN_TEXT: Mapping[str, Any] = {
    "learning_rate": 2e-5,
    "final_learning_rate_fraction": 0.0,
    "rows_per_pass": 1,
    "needle_fraction": 0.0,
    "answer_weight": 1.0,
    "threads": None,
}
"""What all recipes for large models have: LongRoPE2's peak rate, and its training on text alone."""


def recipe(name: RecipeName, source: ModelSource, *, target_length: int) -> dict[str, Any]:
    """Fields of FinetuneSettings, to be overridden by what the user sets; "auto" decides by the model's size."""
    if name == "auto":
        name = "pocket" if _estimated_parameters(source) < POCKET_PARAMETERS else "one_gpu"
    original_length = source.rope.original_max_position_embeddings
    return _RECIPES[name](original_length, target_length)


def _pocket(original_length: int, target_length: int) -> dict[str, Any]:
    """Retrieval by needles in minutes: the defaults of FinetuneSettings."""
    return {}


def _one_gpu(original_length: int, target_length: int) -> dict[str, Any]:
    """A billion tokens in rows of L: what trains at L trains here.

    The peak rate is LongRoPE2's; shares and gaps are a first choice. On four pocket models a quarter of the tokens in
    rows of L taught less than full rows, and in rows of 2L most of what was missing
    (benchmarks/reports/2026-11-26-h200.md). Rows cut as EndPrompt's are as good as full ones on some models and much
    worse on others (2026-11-27-rows.md), so they are no recipe's default.
    """
    rows = {"skipped_rows_per_step": 40, "short_sequences_per_step": 24}
    return {
        **_PLAIN_TEXT,
        **_schedule(1e9, sum(rows.values()) * original_length, warmup=0.02),
        **rows,
        "long_documents_per_step": 0,
        "short_tokens": original_length,
        "skipped_gaps": max(1, min(_MOST_GAPS, target_length - original_length)),
        "weight_decay": 0.1,
    }


def _paper(original_length: int, target_length: int) -> dict[str, Any]:
    """LongRoPE2's (arXiv 2502.20082, section 4.1 and appendix B): 10 billion tokens of plain text, 3 : 3 : 4 in short,
    middle and long documents, 64 rows a step. The paper does not say warm-up and weight decay: these are usual ones.
    """
    rows = {"long_documents_per_step": 26, "middle_sequences_per_step": 19, "short_sequences_per_step": 19}
    return {
        **_PLAIN_TEXT,
        **_schedule(10e9, sum(rows.values()) * target_length, warmup=0.02),
        **rows,
        "weight_decay": 0.1,
        "long_loss_share": 0.4,
        "middle_loss_share": 0.3,
    }


def _published(original_length: int, target_length: int) -> dict[str, Any]:
    """What LongRoPE2's authors released (microsoft/nnscaler v0.8, examples/longrope2): 2,250 steps of 32 rows at 128k.

    Of their 72,000 rows 32,000 are short, 32,000 packed from documents of L to L' and 8,000 longer ones; every row
    weighs the same.
    """
    rows = {"long_documents_per_step": 4, "middle_sequences_per_step": 14, "short_sequences_per_step": 14}
    schedule = _schedule(2250 * 32 * 2**17, sum(rows.values()) * target_length, warmup=0.0)
    return {
        **_PLAIN_TEXT,
        **schedule,
        **rows,
        "warmup_steps": min(40, schedule["steps"]),
        "weight_decay": 0.0,
        "long_loss_share": 4 / 32,
        "middle_loss_share": 14 / 32,
    }


def _schedule(tokens: float, step_tokens: int, *, warmup: float) -> dict[str, int]:
    steps = max(1, round(tokens / step_tokens))
    return {"steps": steps, "warmup_steps": round(warmup * steps)}


_RECIPES: Mapping[RecipeName, Callable[[int, int], dict[str, Any]]] = {
    "pocket": _pocket,
    "one_gpu": _one_gpu,
    "paper": _paper,
    "published": _published,
}


def settings_of(
    given: Mapping[str, Any], name: RecipeName, source: ModelSource, *, target_length: int
) -> FinetuneSettings:
    """The recipe with what the user set. What was not set is made to fit: a warm-up is shortened; loss shares leave
    half to short rows where skipped ones have come beside others in the same steps; and where weights are sharded,
    which takes every worker in every pass, the rows of a kind are the nearest multiple of the workers.

    Raises:
        InvalidFinetuneSettings: a value breaks a rule.
    """
    fields = {**recipe(name, source, target_length=target_length), **given}
    if "warmup_steps" not in given and isinstance(steps := fields.get("steps"), int):
        fields["warmup_steps"] = min(steps, fields.get("warmup_steps", FinetuneSettings().warmup_steps))
    fields |= _fitting_shares(fields, given)
    if fields.get("sharding") == "fsdp":
        fields |= {**_shared_rows(FinetuneSettings(**{**fields, "sharding": "none"})), **given}
    return FinetuneSettings(**fields)


def _fitting_shares(fields: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, float]:
    """Loss shares in the ratio that they have, half in all; none where the user set one, or where they fit as they are.
    Without skipped rows they may take everything."""

    defaults = FinetuneSettings()

    def value(name: str) -> Any:
        return fields.get(name, getattr(defaults, name))

    shares = {field: value(field) for kind, field in _SHARE_FIELDS.items() if value(ROWS_FIELDS[kind])}
    crowded = value(ROWS_FIELDS["skipped"]) and value(ROWS_FIELDS["short"]) and value("long_every") == 1
    if not crowded or any(field in given for field in shares) or (total := math.fsum(shares.values())) < 1:
        return {}
    return {field: share / (2 * total) for field, share in shares.items()}


def _shared_rows(settings: FinetuneSettings) -> dict[str, int]:
    """Rows of a step by field: the nearest multiple of the workers, at least one; none of a kind that has none."""
    workers = settings.workers
    rows = {field: settings.rows_of(kind) for kind, field in ROWS_FIELDS.items()}
    return {field: max(workers * round(count / workers), workers) for field, count in rows.items() if count}


def _estimated_parameters(source: ModelSource) -> float:
    """From the config alone, without the weights; a config that does not say its size is taken for a large model."""
    config = json.loads((source.path / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config", config)
    try:
        layers, hidden, vocabulary = (config[key] for key in ("num_hidden_layers", "hidden_size", "vocab_size"))
        return float(12 * layers * hidden**2 + vocabulary * hidden)
    except (KeyError, TypeError):
        return float("inf")
