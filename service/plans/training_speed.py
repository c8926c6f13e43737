"""How fast this machine trains a model: a few steps of the training that is planned, timed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from finetune.config import KINDS, FinetuneSettings
from finetune.errors import NotEnoughMemory, TrainingStopped
from finetune.job import run_finetune
from finetune.recipes import ROWS_FIELDS
from finetune.results import TrainingProgress
from finetune.rows import row_tokens
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from search_space.candidates.baselines import baseline
from service.plans.model import PlannedModel
from service.plans.training import training_work
from service.searches.training import finetune_settings
from service.specs.search import SearchSpec

MOST_TOKENS = 4096
"""Of a pass that is timed: a longer one is not waited for."""
MEASURED_SECONDS = 1.0
"""So long, and at least two passes or steps, is measured after one that is not."""
_MOST_STEPS = 20


def training_rate(model: PlannedModel, spec: SearchSpec, tell: Callable[[str], None]) -> float | None:
    """Operations per second of a few steps with one pass for each kind of row of the spec's training, under YaRN's
    factors; nothing is written. None where its rows have more than 4,096 tokens, or it takes more memory than there is.

    Raises:
        FinetuneError, EvaluationError: what the training itself would be refused for.
    """
    assert spec.finetune is not None
    asked = finetune_settings(spec.finetune, model.source, spec.target_length)
    original = model.source.rope.original_max_position_embeddings
    kinds = [kind for kind in KINDS if asked.rows_of(kind)]
    longest = max(row_tokens(asked, kind, original_length=original, target_length=spec.target_length) for kind in kinds)
    if longest > MOST_TOKENS:
        tell(f"measuring: no training, whose rows of {longest} tokens are too long to wait for: as fast as the passes")
        return None
    tell(f"measuring: a few steps of the training, rows of up to {longest} tokens")
    few = _with_few_rows(asked)
    try:
        seconds = _seconds(model, few, spec.target_length)
    except NotEnoughMemory as error:
        tell(f"measuring: no training: {error}")
        return None
    return training_work(model, replace(few, steps=1, warmup_steps=0), spec.target_length).flops / seconds


def _with_few_rows(asked: FinetuneSettings) -> FinetuneSettings:
    """A step of at most one pass for each kind, on one worker; a step more than is needed, as the last one writes."""
    rows: dict[str, Any] = {ROWS_FIELDS[kind]: min(asked.rows_of(kind), asked.rows_per_pass) for kind in KINDS}
    if asked.long_every > 1:  # every kind in every step, where their shares have room for each other
        rows |= {"long_every": 1, "long_loss_share": 0.2, "middle_loss_share": 0.2, "skipped_loss_share": 0.2}
    return replace(asked, steps=_MOST_STEPS, warmup_steps=0, workers=1, sharding="none", **rows)


def _seconds(model: PlannedModel, settings: FinetuneSettings, target_length: int) -> float:
    """Of a step, the first one not counted."""
    source, ends = model.source, list[float]()
    scaling = baseline("yarn", source.rope, target_length).scaling
    identity = ModelIdentity.of(source.rope, name=source.name)
    file = FactorFile.of(source.rope, scaling, model=identity, target_length=target_length)

    def note(progress: TrainingProgress) -> None:
        ends.append(time.perf_counter())

    def is_enough() -> bool:
        return (len(ends) > 2 and ends[-1] - ends[0] > MEASURED_SECONDS) or len(ends) == _MOST_STEPS - 1

    with TemporaryDirectory() as directory, contextlib.suppress(TrainingStopped):
        run_finetune(source, file, settings, Path(directory) / "out", note, should_stop=is_enough)
    return (ends[-1] - ends[0]) / (len(ends) - 1)
