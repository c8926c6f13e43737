"""The table of codes is complete: an error that some room learns to raise cannot reach HTTP without an entry."""

import importlib
from collections.abc import Iterator

import pytest

from api.errors import PROBLEM_KINDS, ApiRoomError
from api.wire.problems import ROOM_ERRORS, refusal_of
from service.errors import InvalidSpec, RunFailed

ROOMS = ("api", "service", "workers", "finetune", "storage", "evaluation", "search_space", "ropewalk")
NOT_OF_A_CLASS = {
    *("VALIDATION_FAILED", "NOT_FOUND", "METHOD_NOT_ALLOWED", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"),
    *("HTTP_ERROR", "INTERNAL_ERROR", "DEMO_FAILED"),
}


def _concrete(error: type[Exception]) -> Iterator[type[Exception]]:
    for child in error.__subclasses__():
        yield child
        yield from _concrete(child)


def _classes() -> list[type[Exception]]:
    for room in (*ROOMS, "ropewalk.client"):
        importlib.import_module(f"{room}.errors")
    importlib.import_module("ropewalk.searching")
    return [error for base in ROOM_ERRORS for error in _concrete(base) if error.__module__.split(".")[0] in ROOMS]


def test_the_rooms_are_all_there() -> None:
    """What searches refuse has the base of what the maths below them do."""
    assert {base.__module__.split(".")[0] for base in ROOM_ERRORS} == {*ROOMS} - {"search_space"}


def test_every_error_has_its_code_in_the_table() -> None:
    missing = {error.__name__: error.code for error in _classes() if error.code not in PROBLEM_KINDS}  # type: ignore[attr-defined]
    assert missing == {}


def test_every_code_has_an_error() -> None:
    raised = {error.code for error in _classes()}  # type: ignore[attr-defined]
    assert set(PROBLEM_KINDS) - raised - NOT_OF_A_CLASS == set()


def test_codes_are_unique_and_stable_in_form() -> None:
    codes = [error.code for error in _classes()]  # type: ignore[attr-defined]
    assert len(codes) == len(set(codes))
    assert all(code == code.upper() and code.replace("_", "").isalnum() for code in PROBLEM_KINDS)


def test_every_error_inherits_a_builtin_too() -> None:
    bases = {Exception, BaseException, object}
    for error in _classes():
        builtin = [base for base in error.__mro__ if base.__module__ == "builtins" and base not in bases]
        assert builtin, error


def test_an_unknown_error_is_told_without_its_text() -> None:
    refusal = refusal_of(RuntimeError("password=hunter2"))
    assert refusal.code == "INTERNAL_ERROR"
    assert "hunter2" not in refusal.detail


def test_a_code_given_at_run_time_never_breaks_the_answer() -> None:
    assert refusal_of(RunFailed("x", code="SOMETHING_NEW")).code == "INTERNAL_ERROR"
    assert refusal_of(ApiRoomError("x")).code == "INTERNAL_ERROR"


def test_a_spec_error_names_its_field() -> None:
    refusal = refusal_of(InvalidSpec("no", pointer="/budget/max_trials"))
    assert [field.pointer for field in refusal.errors] == ["/budget/max_trials"]


@pytest.mark.parametrize("code", sorted(PROBLEM_KINDS))
def test_statuses_are_errors(code: str) -> None:
    assert 400 <= PROBLEM_KINDS[code].status < 600
