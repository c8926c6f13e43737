"""What must be installed before a GPU benchmark imports anything."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable


def require(modules: Iterable[str]) -> None:
    """End the program with the names of those that are not installed, if any."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(
            f"this benchmark needs {', '.join(missing)}, but it is not installed here: see benchmarks/gpu/README.md"
        )
