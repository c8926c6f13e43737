"""Models from the Hugging Face Hub: the local cache first, then the network, with one clear line when both fail."""

from __future__ import annotations

import json
import re
from pathlib import Path

from evaluation.errors import ModelNotFound

_HUB_ID = re.compile(r"(?!.*(\.\.|--))[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
_SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja")
_ETAG_TIMEOUT_SECONDS = 5.0


def is_hub_id(name: str) -> bool:
    """Whether `name` could be "model" or "owner/model" on the Hub; says nothing about whether it is there."""
    return _HUB_ID.fullmatch(name) is not None


def snapshot(name: str, *, weights: bool) -> Path:
    """The directory of a Hub model, named by its commit. Raises ModelNotFound."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    patterns = [*_SMALL_FILES, "*.safetensors"] if weights else list(_SMALL_FILES)
    try:
        cached = Path(snapshot_download(name, local_files_only=True))
        if _is_whole(cached, weights):
            return cached
    except LocalEntryNotFoundError:
        pass
    try:
        path = Path(snapshot_download(name, allow_patterns=patterns, etag_timeout=_ETAG_TIMEOUT_SECONDS))
    except GatedRepoError as error:
        reason = "the Hub asks for a login that accepted the model's terms"
        raise _not_found(name, reason) from error
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


def _not_found(name: str, reason: str) -> ModelNotFound:
    return ModelNotFound(
        f"model {name!r} is not in the local Hugging Face cache, and {reason} (a directory is written ./{name})"
    )
