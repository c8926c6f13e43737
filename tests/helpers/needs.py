"""What a test needs that takes seconds to start or to import, read off the test: markers of pyproject.toml."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType

import pytest

from tests.helpers.paths import ROOMS

#: Fixtures that stand for a marker; whoever starts servers of their own reaches for this module, whose name does.
_FIXTURES = {"postgres": {"postgres_url"}, "ray": {"ray_cluster"}}
_STARTS_EVERYTHING = "tests.helpers.server_process"
_LEARNING = {"torch", "transformers", "tokenizers", "safetensors", "peft"}
_OURS = {*ROOMS, "ropewalk", "benchmarks", "examples", "tests"}


def needs(item: pytest.Item) -> Iterator[str]:
    """Names of markers."""
    fixtures = set(getattr(item, "fixturenames", ()))
    module = item.getparent(pytest.Module)
    used = set(_used(vars(module.obj).values())) if module is not None else set()
    for marker, names in _FIXTURES.items():
        if fixtures & names or _STARTS_EVERYTHING in used:
            yield marker
    if "ray" in {name.partition(".")[0] for name in used}:
        yield "ray"
    own = [definition.func.__globals__ for definition in _definitions(item)]
    if any(_learns(name) for names in (used, *(_used(one.values()) for one in own)) for name in names):
        yield "torch"


def _definitions(item: pytest.Item) -> Iterator[pytest.FixtureDef[object]]:
    info = getattr(item, "_fixtureinfo", None)
    for definitions in () if info is None else info.name2fixturedefs.values():
        yield from definitions


def _used(values: Iterable[object]) -> Iterator[str]:
    """Names of the modules that `values` are, or come from."""
    for value in values:
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(name, str):
            yield name


@functools.cache
def _learns(module: str) -> bool:
    """Whether what the module's names stand for leads to torch or its kin, from module to module of ours."""
    seen, left = {module}, [module]
    while left:
        top = (name := left.pop()).partition(".")[0]
        if top in _LEARNING:
            return True
        if top in _OURS and name in sys.modules:
            further = _neighbours(name) - seen
            seen |= further
            left += further
    return False


@functools.cache
def _neighbours(module: str) -> frozenset[str]:
    return frozenset(_used(vars(sys.modules[module]).values()))
