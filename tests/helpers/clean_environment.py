"""An environment that holds some distributions of this one, with what they require, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.helpers.paths import SDK


def installed_wheel(directory: Path) -> Path:
    """The package `ropewalk` alone, built as a wheel and as pip puts it there; asks no registry."""
    source, built, target = (directory / name for name in ("sdk", "built", "installed"))
    shutil.copytree(SDK, source, ignore=shutil.ignore_patterns("__pycache__"))
    _run("build", "--wheel", "--no-isolation", "--outdir", str(built), str(source))
    (made,) = built.iterdir()
    pip = ("pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps", "--no-index", "--no-compile")
    _run(*pip, "--target", str(target), str(made))
    return target


def _run(*module: str) -> None:
    done = subprocess.run([sys.executable, "-m", *module], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


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
    wanted = [Requirement(name) for name in names]
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        one = wanted.pop()
        if (key := (one.name, frozenset(one.extras))) in seen:
            continue
        seen.add(key)
        try:
            requires = distribution(one.name).requires or []
        except PackageNotFoundError:  # such as what only another platform has
            continue
        found.add(one.name)
        wanted += [requirement for requirement in map(Requirement, requires) if _is_needed(requirement, one.extras)]
    return found


def _is_needed(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))
