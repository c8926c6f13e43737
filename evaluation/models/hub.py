"""Models from the Hugging Face Hub: the local cache first, then the network, with one clear line when both fail."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path

from evaluation.errors import ModelNotFound
from ropewalk.names import at_revision

_HUB_ID = re.compile(r"(?!.*(\.\.|--))[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
_REVISION = re.compile(r"(?!.*(\.\.|//|@\{))[^\s\x00-\x20\x7f~^:?*\[\\/][^\s\x00-\x20\x7f~^:?*\[\\]{0,199}(?<![/.])")
"""What git takes as the name of a branch or a tag; a commit is one as well."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja")
_ETAG_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class HubName:
    """A model on the Hub: "model" or "owner/model", and its branch, tag or commit; None: its main branch."""

    repository: str
    revision: str | None = None

    @classmethod
    def of(cls, name: str) -> HubName | None:
        """`name`, such as "owner/model@v1.0", if it has the form of one; says nothing about whether it is there."""
        repository, at, revision = name.partition("@")
        if not _HUB_ID.fullmatch(repository) or (at and not _REVISION.fullmatch(revision)):
            return None
        return cls(repository, revision if at else None)

    def __str__(self) -> str:
        return at_revision(self.repository, self.revision)

    @property
    def is_fixed(self) -> bool:
        """Whether it means the same files forever."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None


def snapshot(name: HubName, *, weights: bool) -> Path:
    """The directory of a Hub model, named by its commit. Raises ModelNotFound.

    A branch or a tag that is asked for by name may have moved: the Hub is asked first, the cache where it cannot be.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    patterns = [*_SMALL_FILES, "*.safetensors"] if weights else list(_SMALL_FILES)
    fetch = functools.partial(snapshot_download, name.repository, revision=name.revision)
    try:
        if name.is_fixed or name.revision is None:
            needed = patterns if name.is_fixed else None
            cached = Path(fetch(allow_patterns=needed, local_files_only=True))
            if _is_whole(cached, weights):
                return cached
    except LocalEntryNotFoundError:
        pass
    try:
        path = Path(fetch(allow_patterns=patterns, etag_timeout=_ETAG_TIMEOUT_SECONDS))
    except GatedRepoError as error:
        reason = "the Hub asks for a login that accepted the model's terms"
        raise _not_found(name, reason) from error
    except RevisionNotFoundError as error:
        raise _not_found(name, f"the Hub knows no revision {name.revision!r} of {name.repository}") from error
    except RepositoryNotFoundError as error:
        raise _not_found(name, "the Hub knows no such public model") from error
    except Exception as error:  # no network, offline mode, a full disk: the library raises many kinds
        cause = error.__cause__ or error
        raise _not_found(name, f"the Hub could not be used ({type(cause).__name__})") from error
    if not _is_whole(path, weights):  # without a network the library gives back a partial download
        raise _not_found(name, "its repository holds no config.json, or not all of its .safetensors files")
    return path


def _is_whole(path: Path, weights: bool) -> bool:
    return (path / "config.json").is_file() and (has_weights(path) or not weights)


def has_weights(path: Path) -> bool:
    """Whether every weight file that the model's index names is there; without an index, whether there is one."""
    index = path / "model.safetensors.index.json"
    if not index.is_file():
        return any(path.glob("*.safetensors"))
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return all((path / name).is_file() for name in names)


def _not_found(name: HubName, reason: str) -> ModelNotFound:
    return ModelNotFound(
        f"model {str(name)!r} is not in the local Hugging Face cache, and {reason} (a directory is written ./{name})"
    )
