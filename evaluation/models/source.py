"""Models by name: where the files are, which rotary embedding they have, their tokenizer, and what identifies them."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evaluation.architecture.layers import Layers
from evaluation.errors import ModelNotFound, UnsupportedModel, UnsupportedTokenizer
from evaluation.models.hub import HubName, snapshot
from evaluation.models.readings import keep, reading_key, recall
from evaluation.models.tokenizer import BackendTokenizer, HFTokenizer, Tokenizer, TokenizerReading
from evaluation.models.user_path import is_directory, is_file, user_path
from ropewalk.names import at_revision
from ropewalk.reading.reader import read
from ropewalk.reading.writer import write
from ropewalk.rope.config import RopeConfig

POCKET = "pocket"
_POCKET_PATH = Path(__file__).resolve().parents[2] / "examples" / "pocket" / "model"
_CHUNK_BYTES = 1 << 20
# Two first imports of transformers at once break, and a server resumes one job while it takes another.
_LOADING = threading.Lock()
# Whatever a tokenizer may be made of; weights and images are other files.
_TOKENIZER_FILES = ("*.json", "*.txt", "*.model", "*.tiktoken")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSource:
    """A model's files. name: as it was asked for, without a revision; revision: the Hub's commit, None for a directory.

    layers: None where only the files were asked for. served_length: the tokens that the model serves as published,
    whatever L is; None where its config does not say, or was not asked.
    """

    name: str
    path: Path
    rope: RopeConfig
    revision: str | None = None
    layers: Layers | None = None
    served_length: int | None = None

    @property
    def reference(self) -> str:
        """What names these very files to others, and later: the absolute path of a directory, "pocket", or a Hub id at
        its commit."""
        is_directory = self.revision is None and self.name != POCKET
        return str(self.path.resolve()) if is_directory else at_revision(self.name, self.revision)


def resolve_model(name: str, *, original_length: int | None = None, weights: bool = True) -> ModelSource:
    """Find a model: "pocket", a directory with a config.json, or a Hugging Face Hub id (local cache first), perhaps
    at a revision: "owner/model@v1.0".

    A name that could be a Hub id is one, whatever lies in the working directory: see :func:`model_directory`.

    Its rotary embedding is what the model's own code makes of its config, for passes of L tokens: `original_length`, or
    else the length that it serves. With weights=False only a Hub model's small files are fetched, which is enough.
    Raises ModelNotFound; UnsupportedModel for a directory that is no model; UnsupportedRope (search_space) with the
    reason for a model whose positions cannot be rescaled.
    """
    path, revision = locate(name, weights=weights)
    name = _without_revision(name, revision)
    rotary = _read_rotary(read_config(path), original_length)
    return ModelSource(
        name=name,
        path=path,
        rope=rotary.rope,
        revision=revision,
        layers=rotary.layers,
        served_length=rotary.served_length,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rotary:
    rope: RopeConfig
    layers: Layers
    served_length: int | None


def _read_rotary(config: Mapping[str, object], original_length: int | None) -> _Rotary:
    key = reading_key("rotary", (json.dumps(config, sort_keys=True).encode(), repr(original_length).encode()))
    if (kept := recall(key)) is not None:
        return read(_Rotary, kept)
    from evaluation.architecture.reading import read_architecture  # transformers takes seconds

    architecture = read_architecture(config, original_length=original_length)
    rotary = _Rotary(rope=architecture.rope, layers=architecture.layers, served_length=architecture.served_length)
    keep(key, write(rotary))
    return rotary


def locate_model(name: str, *, rope: RopeConfig, weights: bool = True) -> ModelSource:
    """The files of a model whose rotary embedding is known already. Raises ModelNotFound, UnsupportedModel."""
    path, revision = locate(name, weights=weights)
    read_config(path)
    name = _without_revision(name, revision)
    return ModelSource(name=name, path=path, rope=rope, revision=revision)


def model_directory(name: str) -> Path | None:
    """The directory that a model's name stands for; None for "pocket" and for what has the form of a Hub id.

    So "model" and "owner/model" mean the same on every machine and in every working directory; a directory of that name
    is written "./model". Only one whose name holds an "@" is taken for what it is where it exists.
    """
    if name == POCKET:
        return None
    hub, path = HubName.of(name), user_path(name)
    return None if hub is not None and (hub.revision is None or not is_directory(path)) else path


def _without_revision(name: str, revision: str | None) -> str:
    hub = HubName.of(name)
    return name if revision is None or hub is None else hub.repository


def load_tokenizer(source: ModelSource) -> Tokenizer:
    """The model's own tokenizer; code that comes with a model is never run. Raises UnsupportedTokenizer."""
    files = sorted(file for pattern in _TOKENIZER_FILES for file in source.path.glob(pattern))
    key = reading_key("tokenizer", (part for file in files for part in (file.name.encode(), file.read_bytes())))
    if (kept := recall(key)) is not None:
        return BackendTokenizer(read(TokenizerReading, kept))
    loaded = _load_with_transformers(source)
    if (reading := loaded.reading()) is None:
        return loaded
    keep(key, write(reading))
    return BackendTokenizer(reading)


def _load_with_transformers(source: ModelSource) -> HFTokenizer:
    try:
        with _LOADING:
            from transformers import AutoTokenizer

            return HFTokenizer(AutoTokenizer.from_pretrained(str(source.path), trust_remote_code=False))
    except Exception as error:  # the library raises whatever the broken file raises
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UnsupportedTokenizer(
            f"a model must come with a tokenizer, but {source.name!r} has none: {reason}"
        ) from error


def model_sha256(source: ModelSource) -> str:
    """sha256 over the names and contents of the weight files, sorted by name. Raises UnsupportedModel without any."""
    files = sorted(source.path.glob("*.safetensors"))
    if not files:
        raise UnsupportedModel(
            f"a model must have weights in .safetensors files, but {source.name!r} has none in {source.path}"
        )
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        digest.update(f"{file.name}\0{_file_sha256(file, status.st_mtime_ns, status.st_size)}\n".encode())
    return digest.hexdigest()


def config_sha256(source: ModelSource) -> str:
    """sha256 of config.json as it lies there: all that a forward pass follows beside the weights.

    The whole file, because no short list of its fields is complete: rope_theta, heads, norms, activations and windows
    are only the known ones. The model's own scaling is hashed too: which it is may depend on the length.
    """
    digest = hashlib.sha256((source.path / "config.json").read_bytes())
    if (published := source.rope.published) is not None:
        digest.update(repr((published.factors.values, published.attention_factor)).encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=256)
def _file_sha256(file: Path, mtime_ns: int, size: int) -> str:
    """Streamed; mtime and size are only there to tell a changed file from the one remembered."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def locate(name: str, *, weights: bool = True) -> tuple[Path, str | None]:
    """Where the files of a model are, and the revision of one from the Hub; nothing in them is read.

    Raises ModelNotFound.
    """
    if name == POCKET:
        if not (_POCKET_PATH / "config.json").is_file():
            raise ModelNotFound(f"the pocket model must be in {_POCKET_PATH}, but is not: run examples/pocket/train.py")
        return _POCKET_PATH, None
    directory = model_directory(name)
    if directory is None:
        hub = HubName.of(name)
        assert hub is not None  # it would be a directory
        path = snapshot(hub, weights=weights)
        return path, path.name
    if name and is_directory(directory):
        return directory.resolve(), None
    raise ModelNotFound(f"a model must be {POCKET!r}, an existing directory or a Hub id, but got model={name!r}")


def read_config(directory: Path) -> Mapping[str, object]:
    """The config.json of a model, whose other files can be opened too. Raises UnsupportedModel."""
    _check_files(directory)
    file = directory / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UnsupportedModel(f"a model directory must hold a config.json, but {directory} does not") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UnsupportedModel(f"config.json must be readable JSON, but {file} is not: {error}") from error
    if not isinstance(config, dict):
        raise UnsupportedModel(f"config.json must be a JSON object, but {file} holds a {type(config).__name__}")
    return config


def _check_files(directory: Path) -> None:
    """Raise UnsupportedModel for a FIFO, a device, a directory or a broken link among the files that are opened."""
    for file in (*directory.glob("*.json"), *directory.glob("*.safetensors")):
        if not is_file(file):
            raise UnsupportedModel(f"the files of a model must be regular files, but {file} is none")


def end_tokens(path: Path) -> frozenset[int]:
    """What ends a text, as the model's generation config says it, or else its config; nothing if neither does."""
    for name in ("generation_config.json", "config.json"):
        try:
            config = json.loads((path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        found = config.get("eos_token_id", config.get("text_config", {}).get("eos_token_id"))
        if found is not None:
            return frozenset(found if isinstance(found, list) else [found])
    return frozenset()
