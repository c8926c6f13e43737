"""The kinds of jobs, one row each: every table of kinds, states, ids, paths and help texts comes from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from search_space.registry import Registry
from storage.records import JobAction, JobKind, JobState

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
