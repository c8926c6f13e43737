from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.reading.annotations import Bare, Keyed, Range, Sparse, Stated, docs_of
from ropewalk.reading.reader import Unreadable, check, read, strict_json
from ropewalk.reading.writer import schema, write


@dataclass(frozen=True, slots=True)
class Levels:
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if sorted(self.values) != list(self.values):
            raise ValueError("levels must rise")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    name: str
    count: Annotated[int, Range(0, 9)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    share: Annotated[float, Range(above=0, most=1)]
    pair: tuple[int, float] = (1, 2.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    kind: Annotated[Literal["outer/1"], Stated()] = "outer/1"
    inner: Inner
    levels: Annotated[Levels, Bare()]
    mode: Literal["on", "off"] = "on"
    rows: Annotated[tuple[Row, ...], Keyed("name")] = ()
    most: Annotated[int, Range(1)] | None = None
    """How many there may be,
    at most."""
    loud: bool = False
    extra: Annotated[float, Sparse()] = 1.0


WHOLE = {
    "kind": "outer/1",
    "inner": {"share": 0.5, "pair": [3, 4.0]},
    "levels": [1.0, 2.5],
    "mode": "off",
    "rows": {"a/b": {"count": 1}, "c": {"count": 2}},
    "most": 3,
    "loud": True,
    "extra": 2.0,
}
VALUE = Outer(
    inner=Inner(share=0.5, pair=(3, 4.0)),
    levels=Levels((1.0, 2.5)),
    mode="off",
    rows=(Row(name="a/b", count=1), Row(name="c", count=2)),
    most=3,
    loud=True,
    extra=2.0,
)


def test_what_is_written_is_read_back() -> None:
    assert read(Outer, WHOLE) == VALUE
    assert write(VALUE) == WHOLE
    assert list(WHOLE) == list(json.loads(json.dumps(write(VALUE)))), "in the order of the fields"


def test_what_is_left_out_or_null_is_the_default() -> None:
    least = {"kind": "outer/1", "inner": {"share": 1}, "levels": []}
    bare = Outer(inner=Inner(share=1.0), levels=Levels(()))
    assert read(Outer, least) == read(Outer, {**least, "most": None, "rows": None, "extra": None}) == bare
    assert "extra" not in json.loads(json.dumps(write(bare)))
    assert isinstance(read(Outer, least).inner.share, float), "a whole number is a number"


@pytest.mark.parametrize(
    ("changes", "pointer", "message"),
    [
        ({"kind": "outer/2"}, "/kind", "/kind must be 'outer/1', but got 'outer/2'"),
        ({"mode": "loud"}, "/mode", "/mode must be one of on, off, but got 'loud'"),
        ({"mode": ["on"]}, "/mode", "must be one of"),
        ({"inner": 3}, "/inner", "/inner must be an object, but got 3"),
        ({"inner": {}}, "/inner/share", "/inner must have the field 'share'"),
        ({"inner": {"share": 0}}, "/inner/share", r"must be in \(0, 1\], but got 0"),
        ({"inner": {"share": True}}, "/inner/share", "must be a number"),
        ({"inner": {"share": 10**400}}, "/inner/share", "must be a finite number"),
        ({"inner": {"share": 1, "pair": [1]}}, "/inner/pair", "must hold 2 values"),
        ({"inner": {"share": 1, "pair": [1.5, 2]}}, "/inner/pair/0", "must be a whole number"),
        ({"levels": {}}, "/levels", "must be an array"),
        ({"levels": [1, "2"]}, "/levels/1", "must be a number"),
        ({"levels": [2, 1]}, "/levels", "/levels: levels must rise"),
        ({"rows": []}, "/rows", "must be an object"),
        ({"rows": {"a/b": 3}}, "/rows/a~1b", "must be an object"),
        ({"rows": {"a~": {"count": 10}}}, "/rows/a~0/count", "must be at most 9"),
        ({"most": 0}, "/most", "must be at least 1, but got 0"),
        ({"most": True}, "/most", "must be a whole number"),
        ({"loud": 1}, "/loud", "must be true or false"),
        ({"colour": 1}, "/colour", "the document must have no fields but kind, inner, .*, but got 'colour'"),
    ],
)
def test_what_breaks_a_rule_is_named_by_its_pointer(changes: dict[str, object], pointer: str, message: str) -> None:
    with pytest.raises(Unreadable, match=message) as caught:
        read(Outer, {**WHOLE, **changes})
    assert caught.value.pointer == pointer


def test_a_stated_field_must_be_there_although_it_has_a_default() -> None:
    with pytest.raises(Unreadable, match="must have the field 'kind'"):
        read(Outer, {name: value for name, value in WHOLE.items() if name != "kind"})


def test_what_is_built_in_python_is_checked_alike() -> None:
    check(VALUE)
    with pytest.raises(Unreadable, match="/rows/c/count must be at most 9, but got 10"):
        check(Row(name="c", count=10), "/rows/c")
    with pytest.raises(Unreadable, match="/share must be a finite number"):
        check(Inner(share=math.nan))


@given(st.floats(allow_nan=False), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_range_is_broken_outside_its_bounds_alone(value: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert (Range(low, high).broken(value) is None) == (low <= value <= high)
    assert (Range(above=low, below=high).broken(value) is None) == (low < value < high)


def test_the_schema_says_what_reading_demands() -> None:
    found = schema(Outer)
    assert found["required"] == ["kind", "inner", "levels"]
    assert found["additionalProperties"] is False
    properties = found["properties"]
    assert isinstance(properties, dict)
    assert properties["most"] == {
        "anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}],
        "description": "How many there may be, at most.",
    }
    assert properties["levels"] == {"type": "array", "items": {"type": "number"}}
    assert properties["rows"]["additionalProperties"]["required"] == ["count"]
    assert properties["inner"]["properties"]["share"] == {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
    assert properties["mode"] == {"enum": ["on", "off"]}
    assert docs_of(Outer) == {"most": "How many there may be, at most."}


@pytest.mark.parametrize("text", ["NaN", '{"a": 1, "a": 2}', "[" * 100_000, "9" * 10_000, "{"])
def test_strict_json_refuses_what_json_leaves_open(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        strict_json(text)
