"""Whether a model fits the memory of a device, checked before it is loaded. vLLM is not needed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workers.arithmetic import choose_device, choose_dtype, device_name
from workers.base import KvCacheBytes, ScorerSettings
from workers.errors import ScorerUnavailable

_GIB = 1024**3
_FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_LENGTH_BYTES = 8  # of a safetensors file, before its header
_MEMORY_INFO = Path("/proc/meminfo")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryNeeded:
    """Bytes that can be computed beforehand: `weights` over all ranks, `kv_cache` on each of them (0: none is kept)."""

    weights: int
    kv_cache: int
    ranks: int
    target_length: int

    @classmethod
    def of(
        cls,
        path: Path,
        *,
        kv_cache_bytes: KvCacheBytes | None,
        dtype: torch.dtype,
        target_length: int,
        ranks: int,
        device: torch.device,
    ) -> MemoryNeeded:
        """Of the model in `path`, from its config and the headers of its files."""
        kv_cache = 0
        if kv_cache_bytes is not None:
            kv_cache = kv_cache_bytes(
                json.loads((path / "config.json").read_text(encoding="utf-8")),
                target_length=target_length,
                device=device.type,
                item_bytes=dtype.itemsize,
                ranks=ranks,
            )
        weights = weight_bytes(path, item_bytes=dtype.itemsize)
        return cls(weights=weights, kv_cache=kv_cache, ranks=ranks, target_length=target_length)

    @property
    def total(self) -> int:
        """On one rank."""
        return self.weights // self.ranks + self.kv_cache

    def check(self, available: int | None, *, what: str) -> None:
        """Return when it fits, or when nothing is known; `what` is available, for the message.

        Raises:
            ScorerUnavailable: it does not, with the parts and what there is.
        """
        if available is None or self.total <= available:
            return
        kept = f" and {self.kv_cache / _GIB:.2f} GiB of KV cache for target_length={self.target_length}"
        raise ScorerUnavailable(
            f"a model must fit {what}, {available / _GIB:.2f} GiB, but {self.weights / _GIB:.2f} GiB of weights over "
            f"{self.ranks} rank{'s' if self.ranks > 1 else ''}{kept if self.kv_cache else ''} need "
            f"{self.total / _GIB:.2f} GiB"
        )


def check_whole_memory(path: Path, settings: ScorerSettings, kv_cache_bytes: KvCacheBytes | None) -> None:
    """Raise ScorerUnavailable when the model in `path` cannot be loaded here, however little else there is."""
    device = choose_device()
    needed = MemoryNeeded.of(
        path,
        kv_cache_bytes=kv_cache_bytes,
        dtype=choose_dtype(settings.dtype, device),
        target_length=settings.target_length,
        ranks=settings.tensor_parallel,
        device=device,
    )
    needed.check(whole_bytes(device), what=f"the memory of {device_name(device)}")


def whole_bytes(device: torch.device) -> int:
    """Of memory that a device has, or this machine."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def free_bytes(device: torch.device) -> int | None:
    """What is left of it; None where it cannot be told. Takes hold of a GPU, which costs some of its memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = _MEMORY_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def weight_bytes(path: Path, *, item_bytes: int) -> int:
    """Of all weights in the safetensors files of `path`, once floats are loaded with `item_bytes` each.

    Read from the files' headers. One that is damaged, or not there, counts nothing: loading says so in better words.
    """
    return sum(_loaded_bytes(tensor, item_bytes) for tensor in _tensors(path))


def tensor_count(path: Path) -> int:
    """How many there are in the safetensors files of `path`, as their headers say."""
    return sum(1 for _ in _tensors(path))


def _tensors(path: Path) -> Iterator[dict[str, Any]]:
    for file in path.glob("*.safetensors"):
        yield from (tensor for name, tensor in _header(file).items() if name != "__metadata__")


def _header(file: Path) -> dict[str, dict[str, Any]]:
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if length > file.stat().st_size:
            return {}
        try:
            header: dict[str, dict[str, Any]] = json.loads(stream.read(length))
        except ValueError:
            return {}
    return header


def _loaded_bytes(tensor: Mapping[str, Any], item_bytes: int) -> int:
    start, end = tensor["data_offsets"]
    stored = _FLOAT_BYTES.get(tensor["dtype"])  # quantised weights stay as they are
    return int(end) - int(start) if stored is None else (int(end) - int(start)) // stored * item_bytes
