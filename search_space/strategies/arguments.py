"""Reads the arguments of a strategy from a search spec, which is JSON that anybody may write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search_space.errors import InvalidStrategy

LARGEST = 100_000
CANDIDATES_AT_ONCE = 4_096
"""The candidates of a generation are proposed in one piece, the first one already when a spec is checked."""


def check_names(arguments: Mapping[str, object], known: Sequence[str], *, whose: str) -> None:
    """Raise :class:`InvalidStrategy` for an argument that is not `known`."""
    for name in arguments:
        if name not in known:
            raise InvalidStrategy(f"{whose}'s arguments are {', '.join(known)}, but got {name!r}")


def whole(arguments: Mapping[str, object], name: str, default: int, *, most: int = LARGEST) -> int:
    """A whole number of at most `most`, or :class:`InvalidStrategy`."""
    value = arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidStrategy(f"{name} must be a whole number, but got {name}={value!r}")
    if value > most:
        raise InvalidStrategy(f"{name} must be at most {most}, but got {name}={value}")
    return value


def optional_whole(arguments: Mapping[str, object], name: str) -> int | None:
    """A whole number, or None where nothing or null was given; otherwise :class:`InvalidStrategy`."""
    return None if arguments.get(name) is None else whole(arguments, name, 0)


def real(arguments: Mapping[str, object], name: str, default: float) -> float:
    """A number, or :class:`InvalidStrategy`."""
    value = arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidStrategy(f"{name} must be a number, but got {name}={value!r}")
    return float(value)


def flag(arguments: Mapping[str, object], name: str, default: bool) -> bool:
    """True or false, or :class:`InvalidStrategy`."""
    value = arguments.get(name, default)
    if not isinstance(value, bool):
        raise InvalidStrategy(f"{name} must be true or false, but got {name}={value!r}")
    return value


def one_of(arguments: Mapping[str, object], name: str, choices: Sequence[str], default: str) -> str:
    """One of `choices`, or :class:`InvalidStrategy`."""
    value = arguments.get(name, default)
    if not isinstance(value, str) or value not in choices:
        raise InvalidStrategy(f"{name} must be one of {', '.join(choices)}, but got {name}={value!r}")
    return value
