"""A file on its way from a server to a directory: there when it is whole and checked."""

import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ropewalk.client.errors import IncompatibleServer
from ropewalk.wire.files import FileResource


@contextmanager
def landing(directory: Path, file: FileResource) -> Iterator[tuple[Path, Callable[[bytes], None]]]:
    """Where the file will be, and what takes its chunks.

    Raises:
        IncompatibleServer: its name leads elsewhere, or its content is not what the server said.
    """
    name = PurePosixPath(file.name)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise IncompatibleServer(f"a file's name must be a path below a directory, but the server says {file.name!r}")
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
    digest = hashlib.sha256()
    try:
        with unfinished.open("wb") as out:

            def write(chunk: bytes) -> None:
                digest.update(chunk)
                out.write(chunk)

            yield path, write
        if digest.hexdigest() != file.sha256:
            raise IncompatibleServer(f"{file.name} must have the checksum that the server says, but has another")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
