"""A step of a search as JSON, and back. Its candidates are trials of the study and are not repeated here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search_space.candidates.candidate import Candidate
from search_space.candidates.step import Extension, Step


def step_to_json(step: Step) -> dict[str, Any]:
    """Everything but the candidates, of which the number is kept."""
    return {
        "candidates": len(step.candidates),
        "documents": list(step.documents),
        "extend": [[extension.trial, list(extension.documents)] for extension in step.extend],
        "prune": list(step.prune),
        "keep_open": step.keep_open,
        "gradients": step.gradients,
    }


def step_from_json(value: Mapping[str, Any], candidates: Sequence[Candidate]) -> Step:
    """The step with its candidates, slot by slot.

    Raises:
        ValueError: another number of candidates than the step had.
    """
    if len(candidates) != value["candidates"]:
        raise ValueError(f"the step has {value['candidates']} candidates, but got {len(candidates)}")
    return Step(
        candidates=tuple(candidates),
        documents=tuple(value["documents"]),
        extend=tuple(Extension(trial=trial, documents=tuple(documents)) for trial, documents in value["extend"]),
        prune=tuple(value["prune"]),
        keep_open=value["keep_open"],
        gradients=value["gradients"],
    )
