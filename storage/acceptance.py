"""A document score comes in: kept for the job, shown in its study and remembered for other searches, in one commit.

Between the three there is nothing to be killed in: a search that was killed at any time shows what one that was not
shows, and a controller that lost its job leaves none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy.dialects.postgresql import insert

from storage.database import Database
from storage.leases import hold
from storage.records import JobRequest, Lease, StoredScore
from storage.retries import retried
from storage.score_cache import CachedScore, remember
from storage.scores import keep
from storage.study import StudyRecord

_trials = models.TrialModel.__table__
_values = models.TrialIntermediateValueModel.__table__
_FINITE = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE

_UNFINISHED = sa.select(
    _trials.c.trial_id,
    sa.bindparam("index", type_=sa.Integer),
    sa.bindparam("value", type_=sa.Double),
    sa.literal(_FINITE, _values.c.intermediate_value_type.type),
).where(
    _trials.c.trial_id == sa.bindparam("id"),
    sa.or_(*(_trials.c.state == state for state in (TrialState.RUNNING, TrialState.WAITING))),
)
_SHOW = (
    insert(_values)
    .from_select(["trial_id", "step", "intermediate_value", "intermediate_value_type"], _UNFINISHED)
    .on_conflict_do_nothing()
)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewScore:
    """A score that is to be accepted."""

    stored: StoredScore
    #: the document's index, under which the study shows nats per answer token
    index: int
    #: what the score cache keeps it by (:func:`evaluation.score_key.score_key`); None: not at all
    cache_key: bytes | None = None


class Acceptance:
    """Takes in the document scores of one job under one lease. Thread-safe.

    With a `study` every score is also an intermediate value of its trial there. `reach` is called with
    "before report" and "after report" within the transaction: tests end the process there.
    """

    def __init__(
        self,
        database: Database,
        lease: Lease,
        *,
        study: StudyRecord | None = None,
        reach: Callable[[str], None] = lambda point: None,
    ) -> None:
        self._database = database
        self._lease = lease
        self._study = study
        self._reach = reach

    @retried()
    def accept(self, scores: Sequence[NewScore]) -> JobRequest:
        """Accept `scores`, all or none; what is there already stays as it is. Returns what the user asks of the job.

        Raises:
            LeaseLost, DatabaseUnreachable, SchemaOutdated.
            TrialNotFound: the study has no such trial.
        """
        shown = {} if self._study is None else self._shown(self._study, scores)
        cached = {one.cache_key: CachedScore.of(one.stored.score) for one in scores if one.cache_key is not None}
        with self._database.transaction() as connection:
            row = hold(connection, self._lease, shared=True)
            keep(connection, self._lease, [one.stored for one in scores])
            self._reach("before report")
            if shown:
                _show(connection, shown)
            self._reach("after report")
            if cached:
                remember(connection, cached)
        request: JobRequest = row.request
        return request

    @staticmethod
    def _shown(study: StudyRecord, scores: Sequence[NewScore]) -> dict[tuple[int, int], float]:
        """Nats per answer token by Optuna's own trial id and step."""
        return {
            (study.trial_id(one.stored.trial), one.index): one.stored.score.nats / one.stored.score.tokens
            for one in scores
        }


def _show(connection: sa.Connection, shown: Mapping[tuple[int, int], float]) -> None:
    """What `Trial.report` does for each, in one statement; a finished trial is left alone, as there.

    Optuna never overwrites a step either: a value is one of an accepted score, which does not change.
    """
    rows = [{"id": trial_id, "index": step, "value": value} for (trial_id, step), value in shown.items()]
    connection.execute(_SHOW, rows)
