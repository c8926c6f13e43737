"""What took long to find out, kept on disk: what transformers made of a model's small files, as importing it takes
longer than all it is asked, and the splits of long texts."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
# What decides a reading beside the files that are read.
_LIBRARIES = ("transformers", "torch", "tokenizers")
_CODE = ("evaluation/architecture", "evaluation/models", "sdk/ropewalk/rope", "sdk/ropewalk/reading")


def reading_key(kind: str, given: Iterable[bytes]) -> str:
    """A name for what is read out of `given` by the code and the libraries of now: others read anew."""
    digest = hashlib.sha256(_readers().encode())
    for one in given:
        digest.update(hashlib.sha256(one).digest())
    return f"{kind}-{digest.hexdigest()}"


def recall(key: str) -> object | None:
    """The JSON value that was kept; None without one."""
    try:
        kept: object = json.loads((_directory() / f"{key}.json").read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError):
        return None
    return kept


def keep(key: str, value: object, *, most: int | None = None) -> None:
    """Keep a JSON value, and of its kind the `most` that were kept last; where nothing can be written, nothing is."""
    with suppress(OSError, RuntimeError):
        directory = _directory()
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=directory, delete=False) as file:
            file.write(json.dumps(value))
        os.replace(file.name, directory / f"{key}.json")  # whole, whoever writes it at the same time
        if most is not None:
            kind = key.partition("-")[0]
            kept = sorted(directory.glob(f"{kind}-*.json"), key=lambda one: one.stat().st_mtime, reverse=True)
            for old in kept[most:]:
                old.unlink()


def _directory() -> Path:
    """Raises RuntimeError for an account without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ropewalk"


@functools.cache
def _readers() -> str:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES]
    files = sorted(file for folder in _CODE for file in (_ROOT / folder).glob("*.py"))
    return "\n".join([*versions, *(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)])
