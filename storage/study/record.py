"""The Optuna study of one search: the record of its candidates."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from ropewalk.rope.config import RopeConfig
from ropewalk.rope.published import PairFactors, PublishedScaling
from search_space.candidates.candidate import Candidate
from search_space.candidates.step import Step
from storage.errors import LeaseLost, StudyConflict, TrialNotFound
from storage.jobs.leases import hold
from storage.optuna_tables import storage as optuna_storage
from storage.optuna_tables.dashboard import WINNER
from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.records import Lease, TrialRecord
from storage.study import trial_states
from storage.study.step_codec import step_from_json, step_to_json
from storage.study.trial_codec import REASON, to_record, to_trial

METRIC_NAMES = "study:metric_names"  # where Optuna keeps what Study.set_metric_names is given
STEP = "ropewalk:step:"  # and the generation: a system attribute for each step
METRIC = "NLL (nats per answer token)"
OWN_SCALING = "own_scaling"  # what the model comes with, over which candidates rescale
ROPE_ATTRIBUTES = ("rope_theta", "rotary_dim", "original_max_position_embeddings", "partial_rotary_factor")


P = ParamSpec("P")
R = TypeVar("R")


def _published_attributes(rope: RopeConfig) -> dict[str, object]:
    own = rope.published
    if own is None:
        return {}
    return {
        OWN_SCALING: {
            "rope_type": own.rope_type,
            "factors": list(own.factors.values),
            "attention": own.attention_factor,
        }
    }


def _published(shown: Mapping[str, Any]) -> PublishedScaling | None:
    own = shown.get(OWN_SCALING)
    if own is None:
        return None
    factors = PairFactors(tuple(own["factors"]))
    return PublishedScaling(rope_type=own["rope_type"], factors=factors, attention_factor=own["attention"])


def _asking(method: Callable[Concatenate[StudyRecord, P], R]) -> Callable[Concatenate[StudyRecord, P], R]:
    """Decorates a method that asks the database: its failures are this room's, and it is tried again for a moment.

    Optuna turns every error of a session into one that speaks of invalid data: outside of this, a connection that
    breaks would end the search.
    """

    @retried()
    @functools.wraps(method)
    def call(study: StudyRecord, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with study._database.translated():
            return method(study, *args, **kwargs)

    return call


class StudyRecord:
    """The study named by the search's id. Thread-safe.

    Without a `lease` it is read-only; with one, every write checks in its own transaction that the lease is held,
    and raises `LeaseLost` without a trace if it is not.
    """

    def __init__(self, database: Database, search_id: str, lease: Lease | None = None) -> None:
        if lease is not None and lease.job_id != search_id:
            raise ValueError(f"the lease must be on {search_id}, but is on {lease.job_id}")
        self._database = database
        self._search_id = search_id
        self._lease = lease
        self._writer: RDBStorage | None = None
        self._id: int | None = None  # Optuna's, once known: it never changes

    # -- writing -----------------------------------------------------------------------------------------------------

    @_asking
    def create_if_missing(
        self,
        *,
        model: str,
        target_length: int,
        rope: RopeConfig | None = None,
        labels: Sequence[tuple[str, str]] = (),
    ) -> None:
        """The study, minimising, with what the dashboard shows about it; `rope` is the model's, for `rope` below."""
        shown: dict[str, object] = {"model": model, "target_length": target_length}
        if labels:
            shown["labels"] = " ".join(f"{name}={value}" for name, value in labels)
        if rope is not None:
            shown |= {name: getattr(rope, name) for name in ROPE_ATTRIBUTES} | _published_attributes(rope)
        with suppress(DuplicatedStudyError):
            self._fenced.create_new_study([StudyDirection.MINIMIZE], self._search_id)
        study_id = self._fenced.get_study_id_from_name(self._search_id)
        known = self._fenced.get_study_user_attrs(study_id)
        for key, value in shown.items():
            if known.get(key) != value:
                self._fenced.set_study_user_attr(study_id, key, value)
        if self._fenced.get_study_system_attrs(study_id).get(METRIC_NAMES) != [METRIC]:
            self._fenced.set_study_system_attr(study_id, METRIC_NAMES, [METRIC])

    @_asking
    def mark_winner(self, trial: int) -> None:
        """Say in the study which trial was chosen on held-out documents: its least value may be another's."""
        self._fenced.set_study_user_attr(self._fenced.get_study_id_from_name(self._search_id), WINNER, trial)

    @_asking
    def add_candidates(self, generation: int, candidates: Sequence[Candidate]) -> tuple[int, ...]:
        """Trial numbers of the generation's candidates, slot by slot; those that exist already are not added again.

        One transaction creates them all, whole.

        Raises:
            StudyConflict: a slot holds another candidate.
        """
        taken = {trial.slot: trial for trial in self.trials() if trial.generation == generation}
        missing = []
        for slot, candidate in enumerate(candidates):
            if slot in taken and taken[slot].candidate != candidate:
                raise StudyConflict(
                    f"a slot keeps its candidate, but slot {slot} of generation {generation} of {self._search_id} "
                    f"holds trial {taken[slot].number}, which is another one"
                )
            if slot not in taken:
                missing.append(to_trial(generation, slot, candidate))
        if missing:
            optuna_storage.add_waiting_trials(self._fenced, self._study_id(), missing)
        slots = {trial.slot: trial.number for trial in self.trials() if trial.generation == generation}
        return tuple(slots[slot] for slot in range(len(candidates)))

    @_asking
    def record_step(self, generation: int, step: Step) -> tuple[int, ...]:
        """The step's candidates as trials, then the step itself; returns the trial numbers, slot by slot.

        A controller that takes over follows recorded steps: proposing again could differ in the last bit between
        machines, and a search must not. A crash between the two writes leaves trials that a same proposal meets again.

        Raises:
            StudyConflict: a slot holds another candidate.
        """
        numbers = self.add_candidates(generation, step.candidates)
        self._fenced.set_study_system_attr(self._study_id(), f"{STEP}{generation:05d}", dict(step_to_json(step)))
        return numbers

    @_asking
    def recorded_steps(self) -> tuple[Step, ...]:
        """Every recorded step by generation; empty when there is no study yet."""
        candidates: dict[int, list[Candidate]] = {}
        for trial in self.trials():
            candidates.setdefault(trial.generation, []).append(trial.candidate)
        try:
            attributes = self._database.optuna.get_study_system_attrs(self._study_id())
        except TrialNotFound:
            return ()
        recorded = [attributes[key] for key in sorted(attributes) if key.startswith(STEP)]
        return tuple(step_from_json(value, candidates.get(generation, ())) for generation, value in enumerate(recorded))

    @_asking
    def replace_system_attributes(self, prefix: str, values: Mapping[str, str]) -> None:
        """Make `values` all of the study's system attributes whose keys start with `prefix`; all or none.

        Raises:
            ValueError: a key starts otherwise.
        """
        if any(not key.startswith(prefix) for key in values):
            raise ValueError(f"every key must start with {prefix!r}, but got {sorted(values)}")
        optuna_storage.replace_system_attributes(self._fenced, self._study_id(), prefix, values)

    def start(self, trial: int) -> bool:
        """Waiting -> running. Every write returns whether it changed something; False is a harmless repetition."""
        return self._move(trial, trial_states.start)

    @_asking
    def finish(self, trial: int, nll: float) -> bool:
        """-> complete, mean NLL in nats per answer token.

        Raises:
            ValueError: nll is no number.
            StudyConflict: the trial is finished already, and not with this value.
        """
        if math.isnan(nll):
            raise ValueError(f"nll must be a number, but got nan for trial {trial}")

        if self._move(trial, lambda database, lease, trial_id: trial_states.complete(database, lease, trial_id, nll)):
            return True
        found = to_record(self._fenced.get_trial(self._trial_id(trial)))
        if found.nll != nll:
            raise StudyConflict(
                f"a finished trial never changes, but trial {trial} of {self._search_id} is {found.state} with "
                f"nll={found.nll}, and was to be complete with nll={nll}"
            )
        return False

    @_asking
    def fail(self, trial: int, reason: str) -> bool:
        """-> failed, with the reason; nothing for a finished trial."""
        try:
            self._fenced.set_trial_user_attr(self._trial_id(trial), REASON, reason)
            return self._fenced.set_trial_state_values(self._trial_id(trial), TrialState.FAIL)
        except UpdateFinishedTrialError:
            return False

    def prune(self, trial: int) -> bool:
        """-> pruned: raced out before all its documents were scored; nothing for a finished trial."""
        return self._move(trial, trial_states.prune)

    # -- reading -----------------------------------------------------------------------------------------------------

    @_asking
    def trials(self) -> tuple[TrialRecord, ...]:
        """Every trial by number, rebuilt exactly; empty when there is no study yet."""
        storage = self._database.optuna
        try:
            study_id = storage.get_study_id_from_name(self._search_id)
        except KeyError:
            return ()
        return tuple(to_record(trial) for trial in storage.get_all_trials(study_id, deepcopy=False))

    @_asking
    def trial_id(self, trial: int) -> int:
        """Optuna's own id of a trial, which is that of no other study's. Raises: TrialNotFound."""
        return self._trial_id(trial)

    @_asking
    def rope(self) -> RopeConfig | None:
        """The model's rotary embedding; None when there is no study yet, or none that was told of it."""
        storage = self._database.optuna
        try:
            shown = storage.get_study_user_attrs(storage.get_study_id_from_name(self._search_id))
        except KeyError:
            return None
        if "rope_theta" not in shown:
            return None
        plain = RopeConfig(**{name: shown[name] for name in ROPE_ATTRIBUTES})
        return replace(plain, published=_published(shown))

    # -- within ------------------------------------------------------------------------------------------------------

    @property
    def _fenced(self) -> RDBStorage:
        """Optuna's storage, each of whose transactions finds the lease held and keeps it so until its commit."""
        if self._writer is None:
            lease = self._held()

            def check(connection: sa.Connection) -> None:
                hold(connection, lease, shared=True)

            self._writer = optuna_storage.fenced(self._database.optuna_tables, check)
        return self._writer

    def _held(self) -> Lease:
        if self._lease is None:
            raise LeaseLost(f"writing to the study of {self._search_id} needs a lease, but there is none")
        return self._lease

    def _study_id(self) -> int:
        if self._id is None:
            try:
                self._id = self._database.optuna.get_study_id_from_name(self._search_id)
            except KeyError as error:
                raise TrialNotFound(f"a study must exist before its trials, but {self._search_id} has none") from error
        return self._id

    def _trial_id(self, trial: int) -> int:
        study_id = self._study_id()
        try:
            return self._database.optuna.get_trial_id_from_study_id_trial_number(study_id, trial)
        except KeyError as error:
            raise TrialNotFound(f"a trial must exist, but {self._search_id} has no trial {trial}") from error

    @_asking
    def _move(self, trial: int, move: Callable[[Database, Lease, int], bool]) -> bool:
        """Whether `move` changed the trial's state; finished ones do not change."""
        return move(self._database, self._held(), self.trial_id(trial))
