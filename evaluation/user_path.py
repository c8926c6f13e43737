"""Paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path


def user_path(text: str) -> Path:
    """`text` as a path, a leading ~ expanded; that of a user who does not exist stays as it is, and is not found."""
    return Path(os.path.expanduser(text))  # Path.expanduser would raise for that user
