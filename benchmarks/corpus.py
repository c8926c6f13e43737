"""Megabytes of English prose on any machine: the documentation strings of what is installed there."""

from __future__ import annotations

import ast
import importlib.util
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

CHARACTERS = 6_000_000  # several documents of 128k tokens in each split
_PACKAGES = ("numpy", "scipy", "sklearn", "torch", "transformers")
_SHORTEST = 200  # characters of a string that is worth reading
_LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"})


def write_installed_text(path: Path, *, characters: int = CHARACTERS) -> Path:
    """Write at most `characters` of them to `path`: Python's own first, each string once; returns it.

    The same on machines with the same versions.
    """
    seen: set[str] = set()
    size = 0
    with path.open("w", encoding="utf-8") as stream:
        for text in _documentation():
            if size >= characters:
                break
            if text not in seen:
                seen.add(text)
                size += stream.write(text + "\n\n")
    return path


def _documentation() -> Iterator[str]:
    for file in _sources():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # escapes in other people's strings
                tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, OSError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node)
                if text is not None and len(text) >= _SHORTEST:
                    yield text


def _sources() -> Iterator[Path]:
    roots = [Path(sysconfig.get_paths()["stdlib"])]
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            roots.append(Path(spec.origin).parent)
    for root in roots:
        for file in sorted(root.rglob("*.py")):
            if not _LEFT_OUT & set(file.relative_to(root).parts):
                yield file
