"""Which tasks an installed harness knows, by its files: its own index of them takes it a minute."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluation.models.readings import keep, recall
from evaluation.models.user_path import is_file
from ropewalk.names import did_you_mean
from workers.errors import ScorerUnavailable

_NAMES = re.compile(
    rb"[\"']?\b(?:task|group|tag)[\"']?[ \t]*:[ \t]*(?:[\"']?([\w.+\-]+)[\"']?"
    rb"|((?:[ \t\r]*(?:#[^\n]*)?\n[ \t]*-[ \t]*[^\n]*)+)|\[([^\]]*)\])"
)
_SUFFIXES = ("", ".yml", ".py", ".md")
_WORD = re.compile(rb"[\w.+\-]+")


def check_tasks(tasks: Sequence[str], path: Path | None) -> None:
    """Return when the harness, or the task files in `path`, may know all of the tasks.

    A name that stands nowhere in their files is none; one that does stands for a task or not, which the harness says.

    Raises:
        ScorerUnavailable: nobody knows a task; says what was perhaps meant.
    """
    own = _own_tasks()
    for task in tasks:
        if task in own:
            continue
        theirs = set() if path is None else _names_in(path)
        places = [_directory(), *(() if path is None else (path,))]
        if task not in theirs and not any(_is_mentioned(task, place) for place in places):
            where = "lm-evaluation-harness" if path is None else f"lm-evaluation-harness or of {path}"
            meant = did_you_mean(task, own | theirs)
            raise ScorerUnavailable(f"harness must name tasks of {where}, but got {task!r}{meant}")


def _own_tasks() -> set[str]:
    version = importlib.metadata.version("lm_eval")
    kept = recall(f"harness-{version}")
    if isinstance(kept, list):
        return set(map(str, kept))
    found = _names_in(_directory())
    keep(f"harness-{version}", sorted(found))
    return found


def _directory() -> Path:
    spec = importlib.util.find_spec("lm_eval")
    assert spec is not None  # check_harness has looked
    assert spec.submodule_search_locations is not None  # a package
    return Path(spec.submodule_search_locations[0]) / "tasks"


def _names_in(directory: Path) -> set[str]:
    """Of tasks, groups and tags."""
    parts = (part for text in _texts(directory) for found in _NAMES.findall(text) for part in found)
    return {word.decode() for part in parts for word in _WORD.findall(part)}


def _is_mentioned(task: str, directory: Path) -> bool:
    whole = re.compile(rb"(?<![\w.+\-])" + re.escape(task.encode()) + rb"(?![\w.+\-])")
    return any(whole.search(text) for text in _texts(directory))


def _texts(directory: Path) -> Iterator[bytes]:
    """Of the files that define tasks; those that others include have any suffix, or none."""
    for file in directory.rglob("*"):
        if ("yaml" in file.name or file.suffix in _SUFFIXES) and is_file(file):
            try:
                yield file.read_bytes()
            except OSError:
                continue
