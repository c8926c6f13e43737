"""Tasks of lm-evaluation-harness on a checkpoint, by the harness itself (the extra `eval`)."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.models.user_path import is_directory
from workers.errors import ScorerUnavailable, ScoringFailed
from workers.model_files import ModelFiles


@dataclass(frozen=True, kw_only=True, slots=True)
class HarnessScore:
    """One metric of one task, as the harness reports it."""

    task: str
    metric: str
    value: float
    standard_error: float | None
    higher_is_better: bool
    samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HarnessRequest:
    """Which tasks, on which checkpoint directory. path: where tasks of the user's own are; limit: examples per task;
    files: how the checkpoint gets there; None: it is there."""

    model: str
    tasks: tuple[str, ...]
    max_length: int
    dtype: str = "auto"
    path: str | None = None
    limit: int | None = None
    seed: int = 0
    files: ModelFiles | None = None


def check_harness(path: str | None) -> None:
    """Raise ScorerUnavailable unless lm-eval is installed, and `path`, where given, is a directory; loads nothing."""
    if importlib.util.find_spec("lm_eval") is None:
        raise ScorerUnavailable("harness tasks need lm-evaluation-harness, but it is missing: pip install '.[eval]'")
    if path is not None and not is_directory(Path(path)):
        raise ScorerUnavailable(f"harness_path must be a directory of task files, but got harness_path={path!r}")


def run_harness(request: HarnessRequest) -> tuple[HarnessScore, ...]:
    """Run the tasks through the harness's own transformers model, greedily where it generates.

    Data that is not on this machine is downloaded by the harness, as `datasets` is set up to.

    Raises:
        ScorerUnavailable: as `check_harness`.
        ScoringFailed: the harness refused or failed; the message is its own.
    """
    check_harness(request.path)
    if request.files is not None:
        request.files.fetch(weights=True)
    import lm_eval
    import torch

    try:
        found = lm_eval.simple_evaluate(
            model="hf",
            device="cuda" if torch.cuda.is_available() else "cpu",
            model_args={"pretrained": request.model, "dtype": request.dtype, "max_length": request.max_length},
            tasks=list(request.tasks),
            task_manager=_task_manager(request.path),
            limit=request.limit,
            log_samples=False,
            bootstrap_iters=1000,
            random_seed=request.seed,
            numpy_random_seed=request.seed,
            torch_random_seed=request.seed,
            fewshot_random_seed=request.seed,
        )
    except Exception as error:  # the harness raises whatever its tasks, data sets and models raise
        reason = " ".join(str(error).split())[:500]
        raise ScoringFailed(f"lm-evaluation-harness failed: {type(error).__name__}: {reason}") from error
    return _scores(found)


@functools.cache
def _task_manager(path: str | None) -> Any:
    """Reads thousands of task files, some ten seconds: once for all models that a process is asked for."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=path)


def _scores(found: Mapping[str, Any]) -> tuple[HarnessScore, ...]:
    return tuple(score for task, values in found["results"].items() for score in _of_task(task, values, found))


def _of_task(task: str, values: Mapping[str, Any], found: Mapping[str, Any]) -> Sequence[HarnessScore]:
    """Metrics are keyed "metric,filter", and their standard errors "metric_stderr,filter"."""
    higher = found.get("higher_is_better", {}).get(task, {})
    samples = found.get("n-samples", {}).get(task, {}).get("effective", 0)
    scores = []
    for key, value in values.items():
        metric, _, filtered = key.partition(",")
        if not filtered or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = values.get(f"{metric}_stderr,{filtered}")
        scores.append(
            HarnessScore(
                task=task,
                metric=metric if filtered == "none" else f"{metric} ({filtered})",
                value=float(value),
                standard_error=float(error) if isinstance(error, int | float) else None,
                higher_is_better=bool(higher.get(metric, True)),
                samples=int(samples),
            )
        )
    return scores
