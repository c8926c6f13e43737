"""A study goes, with all that belongs to it, in the caller's transaction. Optuna's own way takes one of its own."""

from __future__ import annotations

import sqlalchemy as sa
from optuna.storages._rdb import models

_STUDY = models.StudyModel.__table__
_TRIALS = models.TrialModel.__table__
_OF_A_TRIAL: tuple[sa.Table, ...] = (
    models.TrialValueModel.__table__,
    models.TrialIntermediateValueModel.__table__,
    models.TrialParamModel.__table__,
    models.TrialUserAttributeModel.__table__,
    models.TrialSystemAttributeModel.__table__,
    models.TrialHeartbeatModel.__table__,
)
_OF_A_STUDY: tuple[sa.Table, ...] = (
    models.StudySystemAttributeModel.__table__,
    models.StudyUserAttributeModel.__table__,
    models.StudyDirectionModel.__table__,
)


def delete_study(connection: sa.Connection, name: str) -> int:
    """How many trials went; 0 where there is no such study."""
    found = sa.select(_STUDY.c.study_id).where(_STUDY.c.study_name == name).with_for_update()
    study_id = connection.execute(found).scalar_one_or_none()
    if study_id is None:
        return 0
    trials = sa.select(_TRIALS.c.trial_id).where(_TRIALS.c.study_id == study_id)
    for table in _OF_A_TRIAL:
        connection.execute(sa.delete(table).where(table.c.trial_id.in_(trials)))
    gone = connection.execute(sa.delete(_TRIALS).where(_TRIALS.c.study_id == study_id)).rowcount
    for table in (*_OF_A_STUDY, _STUDY):
        connection.execute(sa.delete(table).where(table.c.study_id == study_id))
    return gone
