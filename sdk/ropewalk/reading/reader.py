"""Frozen dataclasses read from JSON values, and checked, by what their annotations say.

Understood are bool, int, float, str, Literal, tuples, `X | None` and other such dataclasses, with the notes of
:mod:`ropewalk.reading.annotations`. Standard library only: benchmarks on bare GPU machines read settings too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, cast, get_args, get_origin

from ropewalk.names import did_you_mean
from ropewalk.reading.annotations import Bare, Keyed, Range, Slot, Sparse, Verbatim, slots_of, split

T = TypeVar("T")


class Unreadable(ValueError):
    """A value that breaks the rule of its place: `pointer` is that place's JSON pointer (RFC 6901)."""

    def __init__(self, message: str, *, pointer: str, rule: str = "", value: object = None) -> None:
        super().__init__(message)
        self.pointer = pointer
        self.rule = rule
        self.value = value


def strict_json(text: str) -> object:
    """The value of a JSON text without NaN, Infinity or a key twice in one object.

    Raises:
        ValueError: `text` is no such JSON, or holds nesting or digits beyond what Python reads.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read(cls: type[T], value: object, pointer: str = "") -> T:
    """A `cls` from a JSON object; what `cls` itself refuses is raised as it does.

    Raises:
        Unreadable: a missing, unknown or ill-typed field, or a number out of its range.
    """
    if not isinstance(value, Mapping):
        _fail(pointer, "must be an object", value)
    known = {slot.name: slot for slot in slots_of(cls)}
    place = pointer or "the document"
    for name, slot in known.items():
        if slot.required and name not in value:
            raise Unreadable(f"{place} must have the field {name!r}", pointer=_child(pointer, name))
    for name in value:
        if name not in known:
            meant = did_you_mean(name, known)
            message = f"{place} must have no fields but {', '.join(known)}, but got {name!r}{meant}"
            raise Unreadable(message, pointer=_child(pointer, name))
    return cls(**{name: _read_slot(known[name], given, _child(pointer, name)) for name, given in value.items()})


def known(cls: type, value: object) -> object:
    """`value` without the fields that `cls` does not have, all the way down: those of later versions."""
    if not isinstance(value, Mapping):
        return value
    slots = {slot.name: slot for slot in slots_of(cls)}
    return {name: _known_slot(slots[name], given) for name, given in value.items() if name in slots}


def _known_slot(slot: Slot, value: object) -> object:
    if slot.note(Keyed) and isinstance(value, Mapping):
        inner = get_args(slot.kind)[0]
        return {name: known(inner, member) for name, member in value.items()}
    kind = next((one for one in (slot.kind, *get_args(slot.kind)) if is_dataclass(one)), None)
    is_whole = slot.note(Bare) is not None or slot.note(Verbatim) is not None
    return value if kind is None or is_whole else known(cast("type", kind), value)


def check(instance: object, pointer: str = "") -> None:
    """Raise :class:`Unreadable` for the first field of `instance` that its annotation does not allow."""
    for slot in slots_of(type(instance)):
        value = getattr(instance, slot.name)
        if not (slot.note(Bare) or slot.note(Keyed) or slot.note(Verbatim)):
            _read_value(slot.kind, slot.notes, value, _child(pointer, slot.name))


def _read_slot(slot: Slot, value: object, pointer: str) -> object:
    if value is None and slot.note(Sparse) is not None:
        return slot.field.default
    if keyed := slot.note(Keyed):
        return _read_keyed(get_args(slot.kind)[0], keyed.by, value, pointer)
    if slot.note(Verbatim):
        if not isinstance(value, Mapping):
            _fail(pointer, "must be an object", value)
        return slot.kind(json.dumps(value, sort_keys=True, allow_nan=False))
    if slot.note(Bare):
        (inner,) = slots_of(slot.kind)
        bare = _read_value(inner.kind, inner.notes, value, pointer)
        try:
            return slot.kind(bare)
        except ValueError as error:
            raise Unreadable(f"{pointer}: {error}", pointer=pointer) from error
    return _read_value(slot.kind, slot.notes, value, pointer)


def _read_keyed(cls: type[T], by: str, value: object, pointer: str) -> tuple[T, ...]:
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        _fail(pointer, "must be an object", value)
    for name, member in value.items():
        if not isinstance(member, Mapping):
            _fail(_child(pointer, name), "must be an object", member)
    return tuple(read(cls, {**member, by: name}, _child(pointer, name)) for name, member in value.items())


def _read_value(annotation: Any, notes: tuple[object, ...], value: object, pointer: str) -> object:
    kind, more = split(annotation)
    notes = (*notes, *more)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (present,) = (one for one in inner if one is not NoneType)
        return None if value is None else _read_value(present, notes, value, pointer)
    if origin is Literal:
        if not any(value is one or (type(value) is type(one) and value == one) for one in inner):
            said = repr(inner[0]) if len(inner) == 1 else f"one of {', '.join(map(str, inner))}"
            _fail(pointer, f"must be {said}", value)
        return value
    if origin is tuple:
        return _read_tuple(inner, value, pointer)
    if is_dataclass(kind):
        return value if isinstance(value, cast("type", kind)) else read(cast("type", kind), value, pointer)
    found = _SCALARS[kind](value, pointer)
    for limits in notes:
        if isinstance(limits, Range) and (rule := limits.broken(found)):
            _fail(pointer, rule, value)
    return found


def _read_tuple(kinds: tuple[Any, ...], value: object, pointer: str) -> tuple[object, ...]:
    if not isinstance(value, list | tuple):
        _fail(pointer, "must be an array", value)
    each = (kinds[0],) * len(value) if kinds[-1] is ... else kinds
    if len(value) != len(each):
        _fail(pointer, f"must hold {len(each)} values", value)
    return tuple(_read_value(kind, (), value[i], _child(pointer, str(i))) for i, kind in enumerate(each))


def _number(value: object, pointer: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _fail(pointer, "must be a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        _fail(pointer, "must be a finite number", value)
    return number


def _whole(value: object, pointer: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        _fail(pointer, "must be a whole number", value)
    return value


def _text(value: object, pointer: str) -> str:
    return value if isinstance(value, str) else _fail(pointer, "must be a string", value)


def _flag(value: object, pointer: str) -> bool:
    return value if isinstance(value, bool) else _fail(pointer, "must be true or false", value)


_SCALARS: Mapping[Any, Any] = {float: _number, int: _whole, str: _text, bool: _flag}


def _child(pointer: str, name: str) -> str:
    return f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"


def _fail(pointer: str, rule: str, value: object) -> NoReturn:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    raise Unreadable(f"{pointer or 'the document'} {rule}, but got {shown}", pointer=pointer, rule=rule, value=value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"finite numbers only, but got {name}")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"each field once, but got {twice!r} twice in one object")
    return result
