"""What the Optuna dashboard reads. It draws one curve for every trial with intermediate values, so a page of two
thousand trials keeps a browser busy for some twenty seconds, with curves that nobody can tell apart.
"""

from __future__ import annotations

import copy
import heapq
from collections.abc import Container, Iterable

from optuna.storages import BaseStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from ropewalk.names import short_name

WINNER = "winner"  # the study's attribute with the number of the trial that was chosen on held-out documents
CURVES = 50  # finished trials whose intermediate values are shown


class DashboardStorage(_CachedStorage):
    """Optuna's storage with its cache, for reading. Of the trials of a study those that have ended and are not among
    the best :data:`CURVES` come without their intermediate values; the database has them, and so has `get_trial`."""

    def __init__(self, cached: BaseStorage) -> None:
        """Over the cache of `cached`, which `optuna.storages.get_storage` made: what one has read, both know."""
        assert isinstance(cached, _CachedStorage)
        self.__dict__ = cached.__dict__

    def get_all_studies(self) -> list[FrozenStudy]:
        return [_named(study) for study in super().get_all_studies()]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = super().get_all_trials(study_id, deepcopy=deepcopy, states=states)
        curves = _best(trials)
        return [trial if _is_open(trial) or trial.number in curves else _without_curve(trial) for trial in trials]


def _named(study: FrozenStudy) -> FrozenStudy:
    """A copy by what people know the search by, before its id."""
    known = study.user_attrs
    if "model" not in known:
        return study
    lengths = [known[name] for name in ("original_max_position_embeddings", "target_length") if name in known]
    parts = [short_name(str(known["model"])), " to ".join(map(str, lengths))]
    parts += [known["labels"]] if known.get("labels") else []
    parts += [f"winner trial {known[WINNER]}"] if WINNER in known else []
    shown = copy.copy(study)
    shown.study_name = f"{', '.join(parts)} ({study.study_name})"
    return shown


def _best(trials: Iterable[FrozenTrial]) -> set[int]:
    """Numbers of the complete trials with the least values; every study here minimises one."""
    complete = ((trial.value, trial.number) for trial in trials if trial.value is not None)
    return {number for _, number in heapq.nsmallest(CURVES, complete)}


def _is_open(trial: FrozenTrial) -> bool:
    return not trial.state.is_finished()


def _without_curve(trial: FrozenTrial) -> FrozenTrial:
    """A copy: the cache's own object stays as it is."""
    shown = copy.copy(trial)
    shown.intermediate_values = {}
    return shown
