"""What is wrong with which field of a request, in sentences: the rule, the value, and what was perhaps meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from fastapi import Request
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from api.wire.words import in_words
from ropewalk.names import did_you_mean
from ropewalk.wire.problems import FieldProblem

_SHOWN_CHARACTERS = 80
_OWN_WORDS = ("missing", "value_error")  # errors that have no value, or that name it themselves
_UNKNOWN = "extra_forbidden"
_SHOULD_BE = "Input should be "  # pydantic's words before what a value must be


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What a route takes: the names of its query parameters, and the type of its body."""

    query: tuple[str, ...] = ()
    body: object = None

    @classmethod
    def of(cls, route: object) -> Expected:
        """Nothing is known of what is no route of ours."""
        if not isinstance(route, APIRoute):
            return cls()
        body = None if route.body_field is None else route.body_field.field_info.annotation
        return cls(query=tuple(_query_names(route)), body=body)

    def names_at(self, location: str, path: Sequence[object]) -> list[str]:
        """The fields that there are where an unknown one was given."""
        if location != "body":
            return list(self.query)
        models = list(_models_of(self.body))
        for part in path:
            # A part that no model has is the index of an array, or the branch of a union, which pydantic names.
            fields = [
                model.model_fields[part] for model in models if isinstance(part, str) and part in model.model_fields
            ]
            models = [inner for field in fields for inner in _models_of(field.annotation)] or models
        return [name for model in models for name in model.model_fields]


def no_unknown_query(request: Request) -> None:
    """Refuse query parameters that the route does not have: a misspelt `validate_only` would submit a job.

    Raises:
        RequestValidationError: with one error for each of them.
    """
    known = Expected.of(request.scope.get("route")).query
    found = [
        {"type": _UNKNOWN, "loc": ("query", name), "msg": "", "input": value}
        for name, value in request.query_params.multi_items()
        if name not in known
    ]
    if found:
        raise RequestValidationError(found)


def field_problems(found: Sequence[Mapping[str, Any]], body: object, *, expected: Expected) -> tuple[FieldProblem, ...]:
    """One problem for each field. The alternatives of a field, of which the value is none, are one sentence."""
    by_field: dict[tuple[str, str], FieldProblem] = {}
    for item in found:
        new = _field_problem(item, body, expected)
        place = (new.location or "", new.pointer)
        by_field[place] = _joined(by_field[place], new) if place in by_field else new
    return tuple(one.model_copy(update={"detail": _told(one.detail)}) for one in by_field.values())


def first_problem(error: ValidationError, given: object, spec: type[Any]) -> str:
    """One sentence for somebody who filled in a `spec`: an unknown field is told before a missing one."""
    of_body: list[dict[str, Any]] = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
    of_body.sort(key=lambda one: one["type"] != _UNKNOWN)
    first = field_problems(of_body[:1], given, expected=Expected(body=spec))[0]
    return f"{first.pointer.lstrip('/').replace('/', '.') or 'the spec'}: {first.detail}"


def _told(detail: str) -> str:
    rule, got, value = detail.partition(", but got ")
    return in_words(rule) + got + value


def _field_problem(item: Mapping[str, Any], body: object, expected: Expected) -> FieldProblem:
    location, path = str(item["loc"][0]), list(item["loc"][1:])
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == _UNKNOWN:
        message = _no_such(path, location, expected)
    elif item["type"] == "missing":
        message = "must be given"
    elif item["type"] not in _OWN_WORDS:
        message = f"{message}, but got {_shown(item['input'])}"
    return FieldProblem(
        pointer=_pointer(path, body) if location == "body" else "".join(f"/{part}" for part in path),
        location=location,
        detail=message,
        code=str(item["type"]).upper(),
    )


def _no_such(path: Sequence[object], location: str, expected: Expected) -> str:
    known = expected.names_at(location, path[:-1])
    what = "field" if location == "body" else "query parameter"
    meant = did_you_mean(path[-1], known) or f"; there are {', '.join(known) or 'none'}"
    return f"there is no such {what}{meant}"


def _joined(one: FieldProblem, other: FieldProblem) -> FieldProblem:
    """Two alternatives of one field: the value is neither."""
    rule, got, value = one.detail.partition(", but got ")
    also = other.detail.partition(", but got ")[0].removeprefix(_SHOULD_BE)
    if not rule.startswith(_SHOULD_BE) or also in rule:
        return one
    return one.model_copy(update={"detail": f"{rule}, or {also}{got}{value}"})


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[: _SHOWN_CHARACTERS - 3]}..."


def _pointer(path: Sequence[str | int], body: object) -> str:
    """The JSON pointer of a pydantic location, without the names of union branches, which are not in the body."""
    pointer = ""
    for index, part in enumerate(path):
        if isinstance(body, Mapping) and (part in body or index == len(path) - 1):
            body = body.get(part)
        elif isinstance(body, list) and isinstance(part, int):
            body = body[part] if part < len(body) else None
        else:
            continue
        pointer += "/" + str(part).replace("~", "~0").replace("/", "~1")
    return pointer


def _query_names(route: APIRoute) -> Iterator[str]:
    for parameter in get_flat_dependant(route.dependant).query_params:
        models = list(_models_of(parameter.field_info.annotation))
        yield from (name for model in models for name in model.model_fields)
        if not models:
            yield parameter.alias


def _models_of(annotation: object) -> Iterator[type[BaseModel]]:
    """The models among the alternatives and the members of a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_of(inner)
