"""The kinds and states of jobs, a row for each kind: tables of kinds, ids, paths and help texts come from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from ropewalk.registry import Registry

JobKind = Literal["search", "finetune", "evaluation"]

JobRequest = Literal["none", "cancel", "pause"]
JobAction = Literal["cancel", "pause", "resume"]


class JobState(StrEnum):
    """Where a job is in its life; `storage/transitions.py` has the table of moves."""

    queued = "queued"
    preparing = "preparing"
    searching = "searching"
    validating = "validating"
    finetuning = "finetuning"
    training = "training"
    evaluating = "evaluating"
    paused = "paused"
    cancelling = "cancelling"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended: nothing about it changes any more."""
        return self in (JobState.succeeded, JobState.failed, JobState.cancelled)


S = JobState


@dataclass(frozen=True, kw_only=True, slots=True)
class KindRow:
    """One kind of job."""

    name: JobKind
    summary: str
    #: of its ids: "srch" in srch_01hf…
    prefix: str
    #: its jobs' address below /v1
    collection: str
    #: state in a controller's hands -> where the work takes it next, in the order of its life
    stages: Mapping[JobState, frozenset[JobState]]
    #: what its users may ask for
    actions: tuple[JobAction, ...] = ("cancel", "pause", "resume")


KINDS: Registry[KindRow] = Registry(
    "kind",
    KindRow(
        name="search",
        summary="finds rescale factors for a model and a target length",
        prefix="srch",
        collection="searches",
        stages={
            S.preparing: frozenset({S.searching, S.validating}),
            S.searching: frozenset({S.validating}),
            S.validating: frozenset({S.finetuning, S.succeeded}),
        },
    ),
    KindRow(
        name="finetune",
        summary="trains a model with found factors",
        prefix="ft",
        collection="finetunes",
        stages={
            S.preparing: frozenset({S.training}),
            S.training: frozenset({S.evaluating, S.succeeded}),
            S.evaluating: frozenset({S.succeeded}),
        },
    ),
    KindRow(
        name="evaluation",
        summary="measures a model at several lengths, with factors and without",
        prefix="eval",
        collection="evaluations",
        stages={S.preparing: frozenset({S.evaluating}), S.evaluating: frozenset({S.succeeded})},
        actions=("cancel",),
    ),
    refusal=ValueError,
    kind=KindRow,
)

JOB_KINDS: tuple[JobKind, ...] = tuple(row.name for row in KINDS.values())

BY_PREFIX: Mapping[str, KindRow] = {row.prefix: row for row in KINDS.values()}

WAITING_FOR_OWNER = "WaitingForOwner"
"""Reason of the condition `Progressing` of a job that waits because its owner has all at work that it may have."""
