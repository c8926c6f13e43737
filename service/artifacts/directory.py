"""Files in a directory that all machines share, where programs open them by their paths."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.artifacts.store import CHUNK_BYTES
from service.errors import FileMissing, FilesUnreachable

GOING = ".going-"  # before a directory's name while it is being removed
UNFINISHED = ".unfinished"  # behind a file's name while it is being written


@dataclass(frozen=True, slots=True)
class DirectoryStore:
    """See :class:`service.artifacts.store.ArtifactStore`. Any process may remove what another has begun to."""

    root: Path

    @property
    def place(self) -> str:
        return str(self.root)

    def directory(self, job_id: str) -> Path | None:
        return self.root / job_id

    def url(self, key: str) -> str:
        return str(self.root / key)

    def put(self, key: str, file: Path) -> None:
        path = self.root / key
        if path.absolute() == file.absolute():
            return
        unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as stream, unfinished.open("wb") as out:
                shutil.copyfileobj(stream, out, CHUNK_BYTES)
                out.flush()
                os.fsync(out.fileno())
            unfinished.replace(path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            raise FilesUnreachable(str(error)) from error

    def read(self, key: str) -> Iterator[bytes]:
        try:
            stream = (self.root / key).open("rb")
        except FileNotFoundError as error:
            raise FileMissing(f"{self.url(key)} must be there, but is not") from error
        except OSError as error:
            raise FilesUnreachable(str(error)) from error
        with stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk

    def sizes(self, prefix: str = "") -> Mapping[str, int]:
        found: dict[str, int] = {}
        for directory, _, names in os.walk(self.root / prefix):
            for name in names:
                path = os.path.join(directory, name)
                with suppress(OSError):
                    found[os.path.relpath(path, self.root)] = os.lstat(path).st_size
        return found

    def job_ids(self) -> tuple[str, ...]:
        with suppress(FileNotFoundError):
            return tuple(sorted(one.name for one in os.scandir(self.root) if not one.name.startswith(".")))
        return ()

    def remove(self, prefix: str) -> int:
        """A directory is moved aside first, so that nobody takes what is half removed for what it was."""
        path = self.root / prefix
        if path.is_file():
            size = path.stat().st_size
            path.unlink(missing_ok=True)
            return size
        size = size_of(path)
        aside = path.with_name(f"{GOING}{path.name}")
        with suppress(FileNotFoundError):
            if aside.exists():  # of a process that died
                shutil.rmtree(aside)
            path.rename(aside)
            shutil.rmtree(aside)
        return size

    def finish(self) -> None:
        for pattern in (f"{GOING}*", f"*/{GOING}*"):
            for path in self.root.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)

    def check(self) -> None:
        probe = self.root / f".writable-{secrets.token_hex(4)}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise FilesUnreachable(
                f"the directory must be writable, but {self.root} is not: {error.strerror}"
            ) from error


def size_of(path: Path) -> int:
    """Bytes of all files below `path`; links are not followed, and what goes meanwhile does not count."""
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(directory, name)).st_size
    return total
