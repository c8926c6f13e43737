"""Which files a spec may make the service read.

Whoever may submit jobs may name models, corpora and data files, and what is in them shows in documents, scores and
error messages. So a spec of anyone but the operator names files under the operator's roots only; symbolic links are
followed before that is decided, and a refusal does not depend on whether the file exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic.fields import FieldInfo

from evaluation.documents.corpus import is_builtin, possible_paths
from evaluation.models.source import model_directory
from evaluation.models.user_path import is_file, user_path
from finetune.output.output_files import FACTORS_NAME
from ropewalk.errors import RopewalkError
from ropewalk.factors.factor_file import FactorFile
from service.errors import PathNotAllowed
from service.specs.base import Reads, Spec
from service.specs.factors import GivenFactors


@dataclass(frozen=True, kw_only=True, slots=True)
class Readable:
    """The rule for one requester. `roots` None: every file, because the requester is the operator."""

    roots: tuple[Path, ...] | None

    def check(self, spec: Spec) -> None:
        """Raise PathNotAllowed at the first field that names a file outside the roots."""
        if self.roots is None:
            return
        for pointer, reads, name in named_files(spec):
            if not all(self._is_under_a_root(path) for path in _paths(reads, name)):
                raise PathNotAllowed(self._rule(pointer, reads, name), pointer=pointer)

    def _is_under_a_root(self, path: Path) -> bool:
        assert self.roots is not None
        try:
            found = path.resolve()
        except (OSError, RuntimeError, ValueError):  # links in a circle, a NUL
            return False
        return any(found.is_relative_to(root.resolve()) for root in self.roots)

    def _rule(self, pointer: str, reads: Reads, name: str) -> str:
        roots = ", ".join(map(str, self.roots or ())) or "none is set"
        others = {"model": "`pocket`, a hub id or ", "corpus": "a built-in corpus or "}.get(reads.what, "")
        field = pointer.removeprefix("/").replace("/", ".")
        return f"{field} must be {others}a path under the server's roots (ROPEWALK_ROOTS: {roots}), but got {name!r}"


def named_files(spec: Spec) -> Iterator[tuple[str, Reads, str]]:
    """(JSON pointer, what it is read as, the text) of every field that names something to read."""
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if isinstance(value, Spec):
            for pointer, reads, text in named_files(value):
                yield f"/{name}{pointer}", reads, text
        elif isinstance(value, str) and (reads_as := read_as(field)) is not None:
            yield f"/{name}", reads_as, value
    yield from _model_of_factors(spec)
    yield from _model_of_checkpoint(spec)


def read_as(field: FieldInfo) -> Reads | None:
    """What the text of a field is read as; None where it names no file."""
    inner = [part for member in get_args(field.annotation) for part in getattr(member, "__metadata__", ())]
    return next((part for part in (*field.metadata, *inner) if isinstance(part, Reads)), None)


def _model_of_factors(spec: Spec) -> Iterator[tuple[str, Reads, str]]:
    """The model that a factor file names, where the spec names none itself."""
    factors = getattr(spec, "factors", None)
    if getattr(spec, "model", "") is None and isinstance(factors, GivenFactors):
        yield "/factors/model/name", Reads("model"), factors.read().model.reference


def _model_of_checkpoint(spec: Spec) -> Iterator[tuple[str, Reads, str]]:
    """The model that the factor file of a checkpoint directory names, where the spec names none. It is read only once
    the directory itself may be."""
    directory = getattr(spec, "checkpoint", None)
    if getattr(spec, "model", "") is None and isinstance(directory, str):
        path = user_path(directory) / FACTORS_NAME
        if not is_file(path):
            return  # a FIFO would be waited for
        try:
            file = FactorFile.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RopewalkError):
            return  # what is wrong is reported when the spec is prepared
        yield "/checkpoint", Reads("model"), file.model.reference


def _paths(reads: Reads, name: str) -> tuple[Path, ...]:
    """Every path that reading `name` may try; none for what is no path."""
    if reads.what == "model":
        directory = model_directory(name)
        return () if directory is None else (directory,)
    if reads.what == "corpus":
        return () if is_builtin(name) else possible_paths(name)
    return (user_path(name),)
