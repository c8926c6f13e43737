"""A row a kind of job, and everything that is said of kinds elsewhere."""

from __future__ import annotations

from typing import get_args

import pytest

from ropewalk.wire.kinds import BY_PREFIX, JOB_KINDS, KINDS, JobKind, JobState
from storage.ids import new_job_id
from storage.transitions import MOVES, STATES


def test_the_type_of_kinds_names_the_rows() -> None:
    assert get_args(JobKind) == JOB_KINDS == tuple(KINDS)


def test_ids_and_addresses_tell_kinds_apart() -> None:
    assert len(BY_PREFIX) == len({row.collection for row in KINDS.values()}) == len(KINDS)
    for kind in JOB_KINDS:
        assert BY_PREFIX[new_job_id(kind).partition("_")[0]].name == kind


@pytest.mark.parametrize("kind", JOB_KINDS)
def test_a_job_comes_from_preparing_to_success_through_every_stage(kind: JobKind) -> None:
    stages = KINDS[kind].stages
    assert next(iter(stages)) is JobState.preparing
    reached = {JobState.preparing}
    for stage, further in stages.items():
        assert stage in reached, "stages stand in the order in which they are reached"
        reached |= further
    assert JobState.succeeded in reached
    assert reached <= STATES[kind]
    assert set(stages) < set(MOVES[kind])


def test_an_unknown_kind_is_told_what_there_is() -> None:
    with pytest.raises(ValueError, match="kind must be one of search, finetune, evaluation, but got 'dream'"):
        KINDS.find("dream")
