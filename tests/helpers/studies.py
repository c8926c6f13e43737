"""A whole search as values: what must not depend on who died when. Times, hosts, attempts and ids are left out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ropewalk.wire.kinds import JobState
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import Job
from storage.scores.store import ScoreStore
from storage.study.record import STEP


@dataclass(frozen=True, kw_only=True)
class WholeStudy:
    """Compare two with ``==``; pytest shows where they differ."""

    trials: list[dict[str, Any]]
    steps: dict[str, Any]
    scores: list[tuple[object, ...]]
    result: dict[str, Any]


def whole_study(database: Database, search_id: str) -> WholeStudy:
    """Of a search that has succeeded."""
    job = JobStore(database).get(search_id)
    assert job.state in (JobState.succeeded, JobState.finetuning), (job.state, job.error_message, job.conditions)
    study_id = database.optuna.get_study_id_from_name(search_id)
    trials = database.optuna_tables.get_all_trials(study_id)
    attributes = database.optuna_tables.get_study_system_attrs(study_id)
    return WholeStudy(
        trials=[
            {
                "number": trial.number,
                "state": trial.state.name,
                "values": trial.values,
                "params": trial.params,
                "intermediate": trial.intermediate_values,
                "user": trial.user_attrs,
                "system": trial.system_attrs,
            }
            for trial in trials
        ],
        steps={key: value for key, value in attributes.items() if key.startswith(STEP)},
        scores=[
            (split, one.trial, one.score, one.scorer)
            for split in ("search", "validation")
            for one in ScoreStore(database).all(search_id, split)
        ],
        result=_result(job),
    )


def _result(job: Job) -> dict[str, Any]:
    assert job.result_json is not None
    result: dict[str, Any] = json.loads(job.result_json)
    del result["factors"]["search"]["id"]
    return result
