"""Settings to start from: of the pocket model, or of the paper."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from evaluation.models.source import ModelSource
from finetune.config import FinetuneSettings, Kind, RecipeName

POCKET_PARAMETERS = 10_000_000
"""Models with fewer weights than this are taught by "auto" as the pocket model is."""

_ROWS: Mapping[Kind, str] = {
    "long": "long_documents_per_step",
    "middle": "middle_sequences_per_step",
    "short": "short_sequences_per_step",
}
_PAPER_TOKENS = 10e9
_PAPER_ROWS = 64


def recipe(name: RecipeName, source: ModelSource, *, target_length: int) -> dict[str, Any]:
    """Fields of FinetuneSettings, to be overridden by what the user sets; "auto" decides by the model's size.

    "pocket" needs minutes and teaches retrieval by needles. "paper" is LongRoPE2's (arXiv 2502.20082, section 4.1 and
    appendix B): 10 billion tokens of plain text, 3 : 3 : 4 in short, middle and long documents, 64 rows a step, a peak
    rate of 2e-5. The paper does not say warm-up and weight decay: these are usual ones.
    """
    if name == "pocket" or (name == "auto" and _estimated_parameters(source) < POCKET_PARAMETERS):
        return {}
    steps = max(1, round(_PAPER_TOKENS / (_PAPER_ROWS * target_length)))
    return {
        "steps": steps,
        "learning_rate": 2e-5,
        "warmup_steps": round(0.02 * steps),
        "final_learning_rate_fraction": 0.0,
        "weight_decay": 0.1,
        "long_documents_per_step": 26,
        "middle_sequences_per_step": 19,
        "short_sequences_per_step": 19,
        "rows_per_pass": 1,
        "long_loss_share": 0.4,
        "middle_loss_share": 0.3,
        "needle_fraction": 0.0,
        "answer_weight": 1.0,
        "threads": None,
    }


def settings_of(
    given: Mapping[str, Any], name: RecipeName, source: ModelSource, *, target_length: int
) -> FinetuneSettings:
    """The recipe with what the user set. What was not set is made to fit: a warm-up is shortened, and where weights are
    sharded, which takes every worker in every pass, the rows of a kind are the nearest multiple of the workers.

    Raises:
        InvalidFinetuneSettings: a value breaks a rule.
    """
    fields = {**recipe(name, source, target_length=target_length), **given}
    if "warmup_steps" not in given and isinstance(steps := fields.get("steps"), int):
        fields["warmup_steps"] = min(steps, fields.get("warmup_steps", FinetuneSettings().warmup_steps))
    if fields.get("sharding") == "fsdp":
        fields |= {**_shared_rows(FinetuneSettings(**{**fields, "sharding": "none"})), **given}
    return FinetuneSettings(**fields)


def _shared_rows(settings: FinetuneSettings) -> dict[str, int]:
    """Rows of a step by field: the nearest multiple of the workers, at least one; none of a kind that has none."""
    workers = settings.workers
    rows = {field: settings.rows_of(kind) for kind, field in _ROWS.items()}
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
