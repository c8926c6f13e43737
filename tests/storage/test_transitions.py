"""The table of moves, and the database's own opinion about states."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from ropewalk.wire.kinds import JOB_KINDS, JobKind, JobState
from storage.errors import InvalidTransition
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.transitions import ACTIVE, CLAIMABLE, FINAL, MOVES, STATES, UNLEASED, check_move

S = JobState


def test_every_state_is_used_and_every_move_leads_to_a_state_of_the_kind() -> None:
    assert frozenset[JobState]().union(*STATES.values()) == set(JobState)
    for kind, moves in MOVES.items():
        for state, allowed in moves.items():
            assert {state} | allowed <= STATES[kind]


def test_final_states_are_final() -> None:
    assert {state for state in JobState if state.is_final} == FINAL
    for kind in JOB_KINDS:
        for state in FINAL | {S.paused}:
            with pytest.raises(InvalidTransition):
                check_move(kind, "id", state, S.preparing)
            with pytest.raises(InvalidTransition):
                check_move(kind, "id", state, state)


def test_a_controller_can_end_whatever_it_can_claim() -> None:
    assert set(JobState) == CLAIMABLE | UNLEASED
    for kind in JOB_KINDS:
        for state in STATES[kind] & CLAIMABLE:
            check_move(kind, "id", state, S.cancelled)
            check_move(kind, "id", state, S.failed)
        for state in STATES[kind] & ACTIVE:
            check_move(kind, "id", state, S.paused)
            check_move(kind, "id", state, S.preparing)


@pytest.mark.parametrize("kind", JOB_KINDS)
def test_the_database_knows_the_states_of_each_kind(kind: JobKind, database: Database) -> None:
    job = JobStore(database).create(kind, "{}").job
    for state in JobState:
        values = {"id": job.id, "state": state.value, "final": state.is_final, "failed": state == S.failed}
        statement = (
            "UPDATE ropewalk.jobs SET state = :state, "
            "request = CASE WHEN :state = 'cancelling' THEN 'cancel' ELSE 'none' END, "
            "finished_at = CASE WHEN :final THEN now() END, error_code = CASE WHEN :failed THEN 'X' END, "
            "error_message = CASE WHEN :failed THEN 'x' END WHERE id = :id"
        )
        with database.engine.connect() as connection:
            if state in STATES[kind]:
                connection.execute(sa.text(statement), values)
            else:
                with pytest.raises(sa.exc.IntegrityError, match="ck_jobs_state_of_kind"):
                    connection.execute(sa.text(statement), values)


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("state = 'succeeded'", "finished_when_final"),
        ("finished_at = now()", "finished_when_final"),
        ("lease_owner = 'a'", "lease_whole"),
        ("lease_expires_at = now()", "lease_whole"),
        ("state = 'paused', lease_owner = 'a', lease_expires_at = now()", "lease_when_in_hands"),
        ("error_code = 'X', error_message = 'x'", "error_when_failed"),
        ("state = 'failed', finished_at = now()", "error_when_failed"),
        ("error_message = 'x'", "error_whole"),
        ("request = 'please'", "request"),
        ("request = 'pause'", "request_when_active"),
        ("state = 'cancelling'", "cancelling_when_requested"),
        ("kind = 'train'", "state_of_kind"),
        ("parent_id = id", "parent_of_finetune"),
        ("labels = '[]'", "objects"),
        ("lease_epoch = -1", "counters"),
    ],
)
def test_the_database_refuses_what_must_not_be(change: str, constraint: str, shared_job: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError, match=f'"ck_jobs_{constraint}"'), shared_job.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE ropewalk.jobs SET {change}"))


@pytest.fixture
def shared_job(database: Database) -> Database:
    JobStore(database).create("search", "{}")
    return database
