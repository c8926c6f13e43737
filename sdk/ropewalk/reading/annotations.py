"""What an annotation says of a field of a frozen dataclass: its type, its range, and how it is written in JSON."""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a number, both allowed; `above` and `below` are not themselves."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def broken(self, value: float) -> str | None:
        """The rule that `value` breaks."""
        low, high = max(self.least, self.above), min(self.most, self.below)
        if self.least <= value <= self.most and self.above < value < self.below:
            return None
        if math.isinf(high):
            return f"must be {'above' if low == self.above else 'at least'} {low:.12g}"
        if low == self.least and high == self.most:
            return f"must be at least {low:.12g}" if value < low else f"must be at most {high:.12g}"
        left, right = "(" if low == self.above else "[", ")" if high == self.below else "]"
        return f"must be in {left}{low:.12g}, {high:.12g}{right}"

    def words(self) -> str:
        """The bounds in words, for documentation."""
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f"{self.least:.12g} to {self.most:.12g}"
        low = f"above {self.above:.12g}" if self.above > self.least else f"at least {self.least:.12g}"
        high = f"below {self.below:.12g}" if self.below < self.most else f"at most {self.most:.12g}"
        return ", ".join(part for part in (low, high) if "inf" not in part)

    def bounds(self) -> dict[str, float]:
        """The bounds that there are, by the words of JSON schema."""
        named = {
            "minimum": self.least,
            "maximum": self.most,
            "exclusiveMinimum": self.above,
            "exclusiveMaximum": self.below,
        }
        return {name: value for name, value in named.items() if math.isfinite(value)}


@dataclass(frozen=True, slots=True)
class Bare:
    """A dataclass of one field, written as that field's value."""


@dataclass(frozen=True, slots=True)
class Verbatim:
    """A dataclass of one field, the text of a JSON object with sorted keys, written as that object."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """A tuple of dataclasses written as an object: the field called `by` is the name. null is none."""

    by: str


@dataclass(frozen=True, slots=True)
class Sparse:
    """Left out where it is the default; null is the default."""


@dataclass(frozen=True, slots=True)
class Stated:
    """Always there, although it has a default."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A field, as its annotation says."""

    name: str
    kind: Any
    notes: tuple[object, ...]
    field: Field[Any]

    def note(self, kind: type[T]) -> T | None:
        """What `Annotated` adds, of this kind."""
        return next((note for note in self.notes if isinstance(note, kind)), None)

    @property
    def required(self) -> bool:
        """Whether JSON must have it."""
        return (self.field.default is MISSING and self.field.default_factory is MISSING) or bool(self.note(Stated))

    @property
    def range(self) -> Range | None:
        """Its bounds, also where it may be None."""
        inner = [note for kind in get_args(self.kind) for note in getattr(kind, "__metadata__", ())]
        return next((note for note in (*self.notes, *inner) if isinstance(note, Range)), None)


def slots_of(cls: type) -> tuple[Slot, ...]:
    """The fields of a dataclass in the order in which they are written."""
    return _slots_of(cast("Hashable", cls))


@cache
def _slots_of(cls: Any) -> tuple[Slot, ...]:
    hints = get_type_hints(cls, include_extras=True)
    return tuple(Slot(field.name, *split(hints[field.name]), field) for field in fields(cls) if field.init)


def docs_of(cls: type) -> Mapping[str, str]:
    """What the source says of each field, in the string below it."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except OSError:  # no source on this machine
        return {}
    body = cast("ast.ClassDef", tree.body[0]).body
    return {
        field.target.id: " ".join(inspect.cleandoc(text.value.value).split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def split(annotation: Any) -> tuple[Any, tuple[object, ...]]:
    """The type, and what `Annotated` adds."""
    if get_origin(annotation) is Annotated:
        kind, *notes = get_args(annotation)
        return kind, tuple(notes)
    return annotation, ()
