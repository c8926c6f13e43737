"""Processes below this one or another, some of which may be ending just now."""

from __future__ import annotations

import psutil


def title(process: psutil.Process) -> str:
    """Its command line, which Ray renames its workers in, or its name; nothing once it has ended."""
    try:
        return " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return ""


def below(text: str, pid: int | None = None) -> list[psutil.Process]:
    """The processes under `pid`, by default this one, whose title holds `text`."""
    return [process for process in psutil.Process(pid).children(recursive=True) if text in title(process)]
