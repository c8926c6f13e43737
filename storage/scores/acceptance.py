"""A document score comes in: kept for the job, shown in its study and remembered for other searches, in one statement.

Between the three there is nothing to be killed in: a search that was killed at any time shows what one that was not
shows, and a controller that lost its job leaves none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ropewalk.wire.kinds import JobRequest
from storage.jobs.fenced import HELD, execute_held
from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.records import Lease, StoredScore
from storage.study.record import StudyRecord

# What is there already stays as it is, and a finished trial is left alone, as `Trial.report` does. The cache's rows in
# the order of their keys: two writers of the same keys would otherwise deadlock.
_ACCEPT = sa.text(f"""
    {HELD},
    new AS MATERIALIZED (
        SELECT new.*, held.request FROM held, unnest(
            CAST(:split AS text[]), CAST(:trial AS integer[]), CAST(:document_id AS text[]),
            CAST(:nats AS float8[]), CAST(:tokens AS integer[]), CAST(:exact AS boolean[]),
            CAST(:gradient AS text[]), CAST(:worker AS text[]), CAST(:attempts AS integer[]),
            CAST(:seconds AS float8[]), CAST(:scorer AS text[]), CAST(:trial_id AS integer[]),
            CAST(:index AS integer[]), CAST(:cache_key AS bytea[])
        ) AS new (split, trial, document_id, nats, tokens, exact, gradient, worker, attempts, seconds, scorer,
                  trial_id, index, cache_key)
    ),
    kept AS (
        INSERT INTO ropewalk.document_scores (job_id, split, trial, document_id, nats, tokens, exact, gradient,
                                              worker, attempts, seconds, scorer, lease_epoch)
        SELECT :job_id, split, trial, document_id, nats, tokens, exact, CAST(gradient AS float8[]),
               worker, attempts, seconds, scorer, :epoch
        FROM new ON CONFLICT DO NOTHING
    ),
    shown AS (
        INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)
        SELECT trial_id, new.index, nats / tokens, 'FINITE'
        FROM new JOIN trials USING (trial_id) WHERE trials.state IN ('RUNNING', 'WAITING') ON CONFLICT DO NOTHING
    ),
    remembered AS (
        INSERT INTO ropewalk.score_cache (key, nats, tokens, exact)
        SELECT cache_key, nats, tokens, exact FROM new WHERE cache_key IS NOT NULL ORDER BY cache_key
        ON CONFLICT DO NOTHING
    )
    SELECT request FROM held
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class NewScore:
    """A score that is to be accepted."""

    stored: StoredScore
    #: the document's index, under which the study shows nats per answer token
    index: int
    #: what the score cache keeps it by (:func:`evaluation.documents.score_key.score_key`); None: not at all
    cache_key: bytes | None = None


class Acceptance:
    """Takes in the document scores of one job under one lease. Thread-safe.

    With a `study` every score is also an intermediate value of its trial there.
    """

    def __init__(self, database: Database, lease: Lease, *, study: StudyRecord | None = None) -> None:
        self._database = database
        self._lease = lease
        self._study = study

    @retried()
    def accept(self, scores: Sequence[NewScore]) -> JobRequest:
        """Accept `scores`, all or none; what is there already stays as it is. Returns what the user asks of the job.

        Raises:
            LeaseLost, DatabaseUnreachable, SchemaOutdated.
            TrialNotFound: the study has no such trial.
        """
        request: JobRequest = execute_held(self._database, self._lease, _ACCEPT, self._columns(scores)).request
        return request

    def _columns(self, scores: Sequence[NewScore]) -> dict[str, list[object]]:
        """What `_ACCEPT` is given: the fields of the scores, each as an array."""
        stored = [one.stored for one in scores]
        return {
            "split": [one.split for one in stored],
            "trial": [one.trial for one in stored],
            "document_id": [one.score.document_id for one in stored],
            "nats": [one.score.nats for one in stored],
            "tokens": [one.score.tokens for one in stored],
            "exact": [one.score.exact for one in stored],
            "gradient": [_array_text(one.score.gradient) for one in stored],
            "worker": [one.worker for one in stored],
            "attempts": [one.attempts for one in stored],
            "seconds": [float(one.seconds) for one in stored],
            "scorer": [one.scorer for one in stored],
            "trial_id": [None if self._study is None else self._study.trial_id(one.trial) for one in stored],
            "index": [one.index for one in scores],
            "cache_key": [one.cache_key for one in scores],
        }


def _array_text(values: Sequence[float] | None) -> str | None:
    """PostgreSQL's text of an array, to the last bit: `unnest` takes arrays of arrays apart to the end."""
    return None if values is None else f"{{{','.join(map(repr, map(float, values)))}}}"
