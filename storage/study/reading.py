"""What is read of a study by people who look at it: a page of trials, one attribute. Straight from the rows.

Optuna's storage reads a study whole, which for thousands of trials takes seconds, and keeps it in memory.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from optuna.trial import TrialState

from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.records import TrialRecord
from storage.study.trial_codec import GENES, record_of

_TRIALS = sa.text("""
    SELECT trials.trial_id, number, CAST(state AS text) AS state,
           CASE CAST(value_type AS text) WHEN 'INF_POS' THEN 'Infinity' ELSE value END AS value
    FROM studies JOIN trials USING (study_id) LEFT JOIN trial_values USING (trial_id)
    WHERE study_name = :search_id AND number > :after ORDER BY number LIMIT :limit
""")
_ATTRIBUTES = sa.text("""
    SELECT trial_id, key, value_json FROM trial_user_attributes WHERE trial_id = ANY(:trials)
    UNION ALL
    SELECT trial_id, key, value_json FROM trial_system_attributes WHERE trial_id = ANY(:trials) AND key = :genes
""")
_SYSTEM_ATTRIBUTE = sa.text("""
    SELECT value_json FROM studies JOIN study_system_attributes USING (study_id)
    WHERE study_name = :search_id AND key = :key
""")


@retried()
def trial_page(database: Database, search_id: str, *, after: int | None, limit: int) -> tuple[TrialRecord, ...]:
    """At most `limit` trials with numbers above `after`, by number; none when there is no study yet."""
    asked = {"search_id": search_id, "after": -1 if after is None else after, "limit": limit}
    with database.transaction() as connection:
        trials = connection.execute(_TRIALS, asked).all()
        ids = [trial.trial_id for trial in trials]
        attributes: dict[int, dict[str, Any]] = {trial_id: {} for trial_id in ids}
        rows = connection.execute(_ATTRIBUTES, {"trials": ids, "genes": GENES}).all()
    values = json.loads(f"[{','.join(row.value_json for row in rows)}]")  # at once: they are thousands
    for (trial_id, key, _), value in zip(rows, values, strict=True):
        attributes[trial_id][key] = value
    return tuple(
        record_of(trial.number, TrialState[trial.state], trial.value, attributes[trial.trial_id]) for trial in trials
    )


@retried()
def system_attribute(database: Database, search_id: str, key: str) -> Any:
    """The value of one of the study's system attributes; None when there is none."""
    with database.transaction() as connection:
        found = connection.execute(_SYSTEM_ATTRIBUTE, {"search_id": search_id, "key": key}).scalar_one_or_none()
    return None if found is None else json.loads(found)
