"""Reading untrusted JSON with an exact complaint: the JSON pointer (RFC 6901) of the field and the rule it breaks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from search_space.errors import InvalidFactorFile


@dataclass(frozen=True, slots=True)
class JsonReader:
    """A value and where it stands in its document."""

    value: object
    pointer: str = ""

    @classmethod
    def parse(cls, text: str) -> JsonReader:
        """A factor file's JSON.

        Raises:
            InvalidFactorFile: `text` is not what :func:`strict_json` takes.
        """
        try:
            return cls(strict_json(text))
        except ValueError as error:
            raise InvalidFactorFile(f"a factor file must be JSON: {error}") from error

    def fail(self, rule: str) -> NoReturn:
        """Raise :class:`InvalidFactorFile` for this value."""
        shown = repr(self.value)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        raise InvalidFactorFile(f"{self.pointer or 'the document'} {rule}, but got {shown}", pointer=self.pointer)

    def object(self, *, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, JsonReader]:
        """The fields of an object; absent optional ones read as null."""
        fields = dict(self.members())
        for name in required:
            if name not in fields:
                raise InvalidFactorFile(
                    f"{self.pointer or 'the document'} must have the field {name!r}", pointer=self._child(name)
                )
        for name in fields:
            if name not in required and name not in optional:
                raise InvalidFactorFile(
                    f"{self.pointer or 'the document'} must have no fields but {', '.join(required + optional)}, "
                    f"but got {name!r}",
                    pointer=self._child(name),
                )
        return {name: fields.get(name, JsonReader(None, self._child(name))) for name in required + optional}

    def members(self) -> Iterator[tuple[str, JsonReader]]:
        """Names and values of an object."""
        if not isinstance(self.value, dict):
            self.fail("must be an object")
        for name, value in self.value.items():
            yield name, JsonReader(value, self._child(name))

    def items(self) -> tuple[JsonReader, ...]:
        """The values of an array."""
        if not isinstance(self.value, list):
            self.fail("must be an array")
        return tuple(JsonReader(value, self._child(str(i))) for i, value in enumerate(self.value))

    def number(self) -> float:
        """A finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            self.fail("must be a number")
        try:
            number = float(self.value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.fail("must be a finite number")
        return number

    def integer(self) -> int:
        """A whole number, written without a fraction."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            self.fail("must be a whole number")
        return self.value

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            self.fail("must be a string")
        return self.value

    @property
    def is_null(self) -> bool:
        return self.value is None

    def _child(self, name: str) -> str:
        return f"{self.pointer}/{name.replace('~', '~0').replace('/', '~1')}"


def strict_json(text: str) -> object:
    """The value of a JSON text without NaN, Infinity or a key twice in one object.

    Raises:
        ValueError: `text` is no such JSON, or holds nesting or digits beyond what Python reads.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"finite numbers only, but got {name}")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"each field once, but got {twice!r} twice in one object")
    return result
