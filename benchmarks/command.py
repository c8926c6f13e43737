"""How a benchmark runs from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable


def run_command(main: Callable[[], None]) -> None:
    """Call `main`; an error of one of the rooms, which carries a code, or a setting that breaks a rule is told in one
    line, as it is the user's to mend. Any other error is this program's, with its traceback."""
    try:
        main()
    except Exception as error:
        told = _told(error)
        if told is None:
            raise
        raise SystemExit(f"error: {told}") from None


def _told(error: Exception) -> str | None:
    if isinstance(getattr(error, "code", None), str):
        return str(error)
    # Where pydantic is missing, nothing that was imported raises its errors.
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not isinstance(error, pydantic.ValidationError):
        return None
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg'].removeprefix('Value error, ')}, but got {first['input']!r}"
