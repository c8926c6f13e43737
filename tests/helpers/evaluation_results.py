"""A made evaluation with everything in it: what a report page is drawn from."""

from __future__ import annotations

import math
from typing import Any

from ropewalk.wire.jobs import JobResource
from search_space.candidates.baselines import BASELINE_NAMES

LENGTHS = (4096, 8192, 16384, 32768)
ORIGINAL = 8192
NAMES = (*BASELINE_NAMES, "found factors", "fine-tuned")
TASKS = ("niah_single_1", "niah_multikey_2", "vt", "cwe", "fwe")
_SKILL = {"none": 0.0, "found factors": 0.9, "fine-tuned": 1.0}


def result() -> dict[str, Any]:
    """As the service writes it; numbers fall with the length, the slower the better the contender."""
    return {
        "model": 'org/model <b>"8B"</b>',
        "original_length": ORIGINAL,
        "target_length": LENGTHS[-1],
        "threshold": 85.6,
        "rows": [_needles(name, length) for name in NAMES for length in LENGTHS],
        "ruler": [_ruler(name, length) for name in NAMES for length in LENGTHS],
        "effective_lengths": {name: _effective(name) for name in NAMES},
        "text": [_text(name, length) for name in NAMES for length in LENGTHS],
        "harness": [
            {
                "name": name,
                "task": "hellaswag",
                "metric": "acc_norm",
                "value": value,
                "standard_error": 0.004,
                "higher_is_better": True,
                "samples": 10042,
            }
            for name, value in (("none", 0.7921), ("fine-tuned", 0.7843))
        ],
        "retention": [
            {"name": name, "length": length, "measure": measure, "before": 0.61, "after": after, "kept": kept}
            for name, kept, after in (("yarn", 97.0, 0.59), ("found factors", 100.0, 0.61), ("fine-tuned", 98.6, 0.601))
            for measure, length in (("next-token accuracy", ORIGINAL), ("RULER average", ORIGINAL))
        ]
        + [
            {
                "name": "fine-tuned",
                "length": None,
                "measure": "hellaswag: acc_norm",
                "before": 0.7921,
                "after": 0.7843,
                "kept": 99.0,
            }
        ],
    }


def job(found: dict[str, Any] | None = None) -> JobResource:
    """A finished evaluation."""
    return JobResource.model_validate(
        {
            "id": "eval_01jd8x6t4n0000000000000000",
            "kind": "evaluation",
            "state": "succeeded",
            "request": "none",
            "labels": {},
            "parent_id": None,
            "spec": {"model": "org/model", "documents": 40, "tasks": ["all"], "factors": {"format": "left out"}},
            "progress": {},
            "result": result() if found is None else found,
            "error": None,
            "created_at": "2026-01-05T12:00:00Z",
            "updated_at": "2026-01-05T12:03:10Z",
            "started_at": "2026-01-05T12:00:01Z",
            "finished_at": "2026-01-05T12:30:00Z",
        }
    )


def _loss(name: str, length: int) -> float:
    """In [0, 1]: how much is lost at the length."""
    past = max(math.log2(length / ORIGINAL), 0.0)
    skill = _SKILL.get(name, 0.2 + 0.08 * NAMES.index(name))
    return min(1.0, 0.02 + past * (1.05 - skill) / 2)


def _needles(name: str, length: int) -> dict[str, Any]:
    loss = _loss(name, length)
    depths = [(index + 0.5) / 40 for index in range(40)]
    by_depth = [[depth, 0.01 + 6 * loss, abs(depth - 0.4) > 0.6 * loss] for depth in depths]
    return {
        "name": name,
        "length": length,
        "nll": 0.01 + 6 * loss,
        "nll_standard_error": 0.01,
        "perplexity": math.exp(0.01 + 6 * loss),
        "exact_match": sum(exact for _, _, exact in by_depth) / 40,
        "documents": 40,
        "by_depth": by_depth,
    }


def _ruler(name: str, length: int) -> dict[str, Any]:
    scores = {task: 100 * (1 - _loss(name, length)) * (1 - 0.04 * place) for place, task in enumerate(TASKS)}
    return {"name": name, "length": length, "scores": scores, "average": sum(scores.values()) / len(scores)}


def _effective(name: str) -> int | None:
    reached = [length for length in LENGTHS if _ruler(name, length)["average"] >= 85.6]
    return max(reached, default=None)


def _text(name: str, length: int) -> dict[str, Any]:
    perplexity = 7.5 - 0.4 * math.log2(length / 4096) + 300 * _loss(name, length) ** 2
    return {
        "name": name,
        "length": length,
        "nll": math.log(perplexity),
        "perplexity": perplexity,
        "accuracy": 0.55 - 0.3 * _loss(name, length),
        "windows": 20,
        "tokens": 20 * 512,
    }
