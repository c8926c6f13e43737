"""Files that a job leaves for people. What counts is in the database, so a disk that is full or a store that is away
costs no job."""

import tempfile
from pathlib import Path

from service.artifacts.store import digested
from service.runtime.job import Runtime
from storage.artifacts import Artifacts
from storage.records import Artifact


def write_artifact(runtime: Runtime, name: str, text: str) -> bool:
    """Store the file completely or not at all; returns whether it is there. What kept it away becomes an event.

    Another controller may have stored the same file before it died: replacing it is harmless.

    Raises:
        LeaseLost.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="ropewalk-file-") as scratch:
            path = Path(scratch) / name
            path.write_text(text, encoding="utf-8")
            size, sha256 = digested(path)
            key = f"{runtime.job.id}/{name}"
            runtime.store.put(key, path)
    except OSError as error:
        runtime.event("artifact.failed", name=name, reason=str(error))
        return False
    file = Artifact(name=name, key=key, bytes=size, sha256=sha256)
    Artifacts(runtime.database).record(runtime.keeper.lease, [file])
    return True
