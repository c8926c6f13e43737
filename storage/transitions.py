"""The life of a job as one table: who may go where, and what a state means for leases and requests."""

from __future__ import annotations

from collections.abc import Mapping

from ropewalk.wire.kinds import KINDS, JobKind, JobState
from storage.errors import InvalidTransition

S = JobState

FINAL = frozenset({S.succeeded, S.failed, S.cancelled})

#: Ways out that every job in a controller's hands has. A controller that takes over prepares again.
_ALWAYS = frozenset({S.preparing, S.paused, S.failed, S.cancelled})

#: Where a controller may move a job whose user wants it to end.
_CANCELLING = frozenset({S.cancelled, S.failed})

#: kind -> state -> where its controller may move it. States that are missing are not for a controller to leave.
MOVES: Mapping[JobKind, Mapping[JobState, frozenset[JobState]]] = {
    row.name: {
        S.queued: _ALWAYS,
        **{state: _ALWAYS | further for state, further in row.stages.items()},
        S.cancelling: _CANCELLING,
    }
    for row in KINDS.values()
}

#: States that a user's request or the end of a fine-tuning leaves, without a controller.
_RESTING = frozenset({S.paused}) | FINAL

#: kind -> every state that it can be in; the tables carry the same as a constraint.
STATES: Mapping[JobKind, frozenset[JobState]] = {
    kind: _RESTING.union(moves, *moves.values()) for kind, moves in MOVES.items()
}

#: States in which nobody holds a lease: ended, waiting for the user, or waiting for a fine-tuning.
UNLEASED = _RESTING | {S.finetuning}

#: States that a controller may claim when no live lease is on them.
CLAIMABLE = frozenset(S) - UNLEASED

#: States in which a controller is at work and has to obey requests itself.
ACTIVE = CLAIMABLE - {S.queued, S.cancelling}


def check_move(kind: JobKind, job_id: str, current: JobState, new: JobState) -> None:
    """Return when the controller of a `kind` may move it from `current` to `new`. Staying is always allowed.

    Raises:
        InvalidTransition: with both states and what would have been allowed.
    """
    if new == current and current not in UNLEASED:
        return
    allowed = MOVES[kind].get(current, frozenset())
    if new not in allowed:
        names = ", ".join(sorted(allowed)) or "none"
        raise InvalidTransition(f"a {kind} in state {current} may move to: {names}; but {job_id} was to move to {new}")
