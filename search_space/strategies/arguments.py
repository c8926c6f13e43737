"""The settings of a strategy, read from a search spec, which is JSON that anybody may write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self, TypeVar

from ropewalk.names import did_you_mean
from ropewalk.reading.annotations import Range, slots_of
from ropewalk.reading.reader import Unreadable, check, read
from search_space.errors import InvalidStrategy

LARGEST = 100_000
AT_ONCE = Range(1, 4_096)
"""The candidates of a generation are proposed in one piece, the first one already when a spec is checked."""
NONE_AT_ONCE = Range(0, 4_096)


class Settings:
    """Base of the frozen dataclass that says what a spec may give beside a strategy's name.

    Annotations and defaults say which values; the string below a field is its line in the documentation. What involves
    several fields is checked in the subclass's `__post_init__`, after :meth:`check`.
    """

    __slots__ = ()
    owner: ClassVar[str]
    """Whose arguments they are, for messages."""

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise :class:`InvalidStrategy` for a value out of its range."""
        try:
            check(self)
        except Unreadable as problem:
            raise _refusal(problem) from problem

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, object]) -> Self:
        """Settings from the names and values of a search spec.

        Raises:
            InvalidStrategy: unknown name, wrong type, or a value out of its range.
        """
        return read_arguments(cls, arguments)


SettingsT = TypeVar("SettingsT", bound=Settings)


def read_arguments(cls: type[SettingsT], arguments: Mapping[str, object]) -> SettingsT:
    """:meth:`Settings.from_arguments`, for classes that prepare the arguments first."""
    check_names(arguments, [slot.name for slot in slots_of(cls)], whose=cls.owner)
    try:
        return read(cls, arguments)
    except Unreadable as problem:
        raise _refusal(problem) from problem


def check_names(arguments: Mapping[str, object], known: Sequence[str], *, whose: str) -> None:
    """Raise :class:`InvalidStrategy` for an argument that is not `known`."""
    for name in arguments:
        if name not in known:
            meant = did_you_mean(name, known)
            raise InvalidStrategy(f"{whose}'s arguments are {', '.join(known)}, but got {name!r}{meant}")


def _refusal(problem: Unreadable) -> InvalidStrategy:
    name = problem.pointer.removeprefix("/")
    return InvalidStrategy(f"{name} {problem.rule}, but got {name}={problem.value!r}")
