"""Frozen dataclasses written as JSON values, and the JSON schema of what is written."""

from __future__ import annotations

import json
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin

from ropewalk.reading.annotations import Bare, Keyed, Range, Slot, Sparse, Verbatim, docs_of, slots_of, split


def write(value: object) -> object:
    """The JSON value that :func:`ropewalk.reading.reader.read` reads back."""
    if is_dataclass(value):
        given = [(slot, getattr(value, slot.name)) for slot in slots_of(type(value))]
        return {
            slot.name: _write_slot(slot, own)
            for slot, own in given
            if not (slot.note(Sparse) and own == slot.field.default)
        }
    return [write(one) for one in value] if isinstance(value, tuple) else value


def _write_slot(slot: Slot, value: Any) -> object:
    if slot.note(Verbatim):
        (inner,) = slots_of(slot.kind)
        return json.loads(getattr(value, inner.name))
    if slot.note(Bare):
        (inner,) = slots_of(slot.kind)
        return write(getattr(value, inner.name))
    if keyed := slot.note(Keyed):
        rows = [cast("dict[str, object]", write(one)) for one in value]
        return {row.pop(keyed.by): row for row in rows}
    return write(value)


def schema(cls: type) -> dict[str, object]:
    """The JSON schema of what :func:`write` makes of a `cls`."""
    docs, slots = docs_of(cls), slots_of(cls)
    properties = {
        slot.name: {**_schema_of_slot(slot), **({"description": docs[slot.name]} if slot.name in docs else {})}
        for slot in slots
    }
    return {
        "type": "object",
        "title": cls.__name__,
        "properties": properties,
        "required": [slot.name for slot in slots if slot.required],
        "additionalProperties": False,
    }


def _schema_of_slot(slot: Slot) -> dict[str, object]:
    if slot.note(Verbatim):
        return {"type": "object", "additionalProperties": True}
    if slot.note(Bare):
        (inner,) = slots_of(slot.kind)
        return _schema_of_slot(inner)
    if keyed := slot.note(Keyed):
        rows: dict[str, Any] = schema(get_args(slot.kind)[0])
        del rows["properties"][keyed.by]
        rows["required"] = [name for name in rows["required"] if name != keyed.by]
        return {"type": "object", "additionalProperties": rows}
    return _schema_of(slot.kind, slot.notes)


def _schema_of(annotation: Any, notes: tuple[object, ...] = ()) -> dict[str, object]:
    kind, more = split(annotation)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (present,) = (one for one in inner if one is not NoneType)
        return {"anyOf": [_schema_of(present, (*notes, *more)), {"type": "null"}]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple:
        size = {} if inner[-1] is ... else {"minItems": len(inner), "maxItems": len(inner)}
        return {"type": "array", "items": _schema_of(inner[0]), **size}
    if is_dataclass(kind):
        return schema(cast("type", kind))
    limits = next((note for note in (*notes, *more) if isinstance(note, Range)), Range())
    return {"type": {float: "number", int: "integer", str: "string", bool: "boolean"}[kind], **limits.bounds()}
