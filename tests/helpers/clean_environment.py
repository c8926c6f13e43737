"""An environment that holds some distributions of this one, with what they require, and nothing else."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement


def link_distributions(names: tuple[str, ...], target: Path) -> Path:
    """`target`, for PYTHONPATH of a Python that was started with -S: the files of `names` and of all they require.

    As links, so that torch takes no time. What is required under a marker that is false here is left out.
    """
    target.mkdir()
    for name in _closure(names):
        files = distribution(name).files or ()
        for part in sorted({file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}):
            path = target / part
            if not path.exists():
                path.symlink_to(Path(str(distribution(name).locate_file(part))))
    return target


def _closure(names: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    wanted = list(names)
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:  # such as what only another platform has
            continue
        found.add(name)
        for requirement in map(Requirement, requires):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)
    return found
