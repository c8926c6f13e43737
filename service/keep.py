"""How long the operator keeps things."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Keep:
    """How long things are kept, in seconds; None: until somebody deletes them."""

    #: files of a job after its end
    artifacts: float | None = None
    #: what trainings could be resumed from, after the job has ended or was paused
    states: float | None = None
    #: cached scores, after they were computed
    score_cache: float | None = None
