"""Optuna's storage with trials read column by column. Its own reading makes an object of SQLAlchemy's for every
parameter, attribute and intermediate value, and parses every distribution twice: seconds for two thousand trials, which
the dashboard's first page and every controller that takes a search over wait for. A test holds the two against each
other.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Container, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

Rows = dict[int, list[Any]]

OWN_PREFIX = "ropewalk:"  # of the keys of system attributes that are no business of Optuna's

_studies = models.StudyModel.__table__.c
_directions = models.StudyDirectionModel.__table__.c
_study_user = models.StudyUserAttributeModel.__table__.c
_study_system = models.StudySystemAttributeModel.__table__.c
_trials = models.TrialModel.__table__.c
_params = models.TrialParamModel.__table__.c
_user = models.TrialUserAttributeModel.__table__.c
_system = models.TrialSystemAttributeModel.__table__.c
_values = models.TrialValueModel.__table__.c
_intermediate = models.TrialIntermediateValueModel.__table__.c

_distribution = lru_cache(maxsize=4096)(json_to_distribution)


class ColumnReadingStorage(RDBStorage):
    """As Optuna's, only faster where all trials of a study, or all studies, are read."""

    def get_all_studies(self) -> list[FrozenStudy]:
        """Every study, by id; of its system attributes those that are not this project's own (`ropewalk:`), which are
        large and which nobody reads this way. The dashboard asks for all of them to show one."""
        with self.scoped_session() as session:
            connection = session.connection()
            studies = connection.execute(sa.select(_studies.study_id, _studies.study_name).order_by(_studies.study_id))
            names = {study_id: name for study_id, name in studies}  # noqa: C416 (rows are no pairs to mypy)
            directions: Rows = defaultdict(list)
            of_studies = sa.select(_directions.study_id, _directions.direction).order_by(_directions.objective)
            for study_id, direction in connection.execute(of_studies):
                directions[study_id].append(direction)
            user = _study_attributes(connection, _study_user)
            system = _study_attributes(connection, _study_system)
        return [
            FrozenStudy(
                study_name=name,
                direction=None,
                directions=directions[study_id],
                user_attrs=user.get(study_id, {}),
                system_attrs=system.get(study_id, {}),
                study_id=study_id,
            )
            for study_id, name in names.items()
        ]

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if states is not None:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        with self.scoped_session() as session:
            models.StudyModel.find_or_raise_by_id(study_id, session)
            return _read(session.connection(), study_id, sorted(included_trial_ids), trial_id_greater_than)


def _read(connection: sa.Connection, study_id: int, also: Sequence[int], above: int) -> list[FrozenTrial]:
    """Trials with ids above `above`, or in `also`. What a trial's state says is there was written with it, or before,
    so states are read first."""
    wanted = sa.or_(_trials.trial_id > above, _trials.trial_id.in_(also))
    query = sa.select(
        _trials.trial_id, _trials.number, _trials.state, _trials.datetime_start, _trials.datetime_complete
    )
    rows = connection.execute(query.where(_trials.study_id == study_id, wanted).order_by(_trials.trial_id)).all()
    ids = [row.trial_id for row in rows]
    params = _by_trial(connection, ids, _params.param_name, _params.param_value, _params.distribution_json, of=_params)
    user = _attributes(connection, ids, _user)
    system = _attributes(connection, ids, _system)
    values = _by_trial(connection, ids, _values.objective, _values.value, _values.value_type, of=_values)
    intermediate = _by_trial(
        connection,
        ids,
        _intermediate.step,
        _intermediate.intermediate_value,
        _intermediate.intermediate_value_type,
        of=_intermediate,
    )
    return [
        FrozenTrial(
            number=row.number,
            state=row.state,
            value=None,
            values=_decoded_values(values.get(row.trial_id, [])),
            datetime_start=row.datetime_start,
            datetime_complete=row.datetime_complete,
            params={
                name: _distribution(text).to_external_repr(value) for name, value, text in params.get(row.trial_id, [])
            },
            distributions=_distributions(params.get(row.trial_id, [])),
            user_attrs=user.get(row.trial_id, {}),
            system_attrs=system.get(row.trial_id, {}),
            intermediate_values={
                step: models.TrialIntermediateValueModel.stored_repr_to_intermediate_value(value, kind)
                for step, value, kind in intermediate.get(row.trial_id, [])
            },
            trial_id=row.trial_id,
        )
        for row in rows
    ]


def _by_trial(connection: sa.Connection, ids: list[int], *columns: sa.Column[Any], of: Any) -> Rows:
    """The columns of the rows of these trials in the order in which they were written."""
    chosen = of.trial_id == sa.any_(sa.bindparam("ids", type_=sa.ARRAY(sa.Integer)))
    (key,) = of.trial_id.table.primary_key
    found: Rows = defaultdict(list)
    query = sa.select(of.trial_id, *columns).where(chosen).order_by(key)
    for trial_id, *row in connection.execute(query, {"ids": ids}):
        found[trial_id].append(row)
    return found


def _attributes(connection: sa.Connection, ids: list[int], of: Any) -> dict[int, dict[str, Any]]:
    rows = [
        (trial_id, key, text)
        for trial_id, of_trial in _by_trial(connection, ids, of.key, of.value_json, of=of).items()
        for key, text in of_trial
    ]
    values = json.loads(f"[{','.join(text for _, _, text in rows)}]")
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for (trial_id, key, _), value in zip(rows, values, strict=True):
        found[trial_id][key] = value
    return found


def _study_attributes(connection: sa.Connection, of: Any) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    query = sa.select(of.study_id, of.key, of.value_json).where(of.key.not_like(f"{OWN_PREFIX}%"))
    for study_id, key, text in connection.execute(query):
        found[study_id][key] = json.loads(text)
    return found


def _decoded_values(rows: list[Sequence[Any]]) -> list[float] | None:
    by_objective = {
        objective: models.TrialValueModel.stored_repr_to_value(value, kind) for objective, value, kind in rows
    }
    return [by_objective[objective] for objective in sorted(by_objective)] or None


def _distributions(rows: list[Sequence[Any]]) -> dict[str, BaseDistribution]:
    return {name: _distribution(text) for name, _, text in rows}
