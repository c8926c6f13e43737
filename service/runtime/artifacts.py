"""Files that a job leaves for people. What counts is in the database, so a disk that is full costs no job."""

import os
from contextlib import suppress

from service.runtime.job import Runtime


def write_artifact(runtime: Runtime, name: str, text: str) -> bool:
    """Write the file completely or not at all; returns whether it is there. What kept it away becomes an event.

    Another controller may have written the same file before it died: replacing it is harmless.
    """
    path = runtime.artifacts / name
    unfinished = path.with_name(f"{name}.{runtime.keeper.lease.epoch}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        runtime.event("artifact.failed", name=name, reason=str(error))
        return False
    return True
