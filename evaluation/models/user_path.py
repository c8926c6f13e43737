"""Paths as people write them.

What somebody else names is asked about with the functions here, not with `Path.exists` and its like: these raise for a
name that is too long and for a directory that may not be entered. Where nothing can be found, the answer is no.
"""

from __future__ import annotations

import os
from pathlib import Path


def user_path(text: str) -> Path:
    """`text` as a path, a leading ~ expanded; that of a user who does not exist stays as it is, and is not found."""
    return Path(os.path.expanduser(text))  # Path.expanduser would raise for that user


def exists(path: Path) -> bool:
    """Whether anything is there, links followed."""
    return os.path.exists(path)


def is_file(path: Path) -> bool:
    """Whether a regular file is there, links followed: one that ends, and that nobody has to write while it is read.

    A FIFO or a device is none.
    """
    return os.path.isfile(path)


def is_directory(path: Path) -> bool:
    """Whether a directory is there, links followed."""
    return os.path.isdir(path)
