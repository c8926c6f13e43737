"""Where and how torch calculates: what a score's last bits depend on besides model, candidate and document."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from workers.errors import ScorerUnavailable

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# The compute capability from which on NVIDIA's GPUs have it; CPUs compute in all of them, more or less slowly.
_NEEDED_CAPABILITY = {"float32": (0, 0), "float16": (6, 0), "bfloat16": (8, 0)}
_CPU_INFO = Path("/proc/cpuinfo")


def choose_device() -> torch.device:
    """The accelerator where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """What a spec's `dtype` means on the device; `auto` is bfloat16 on a GPU that has it, float32 elsewhere.

    Raises:
        ScorerUnavailable: the GPU does not compute in it.
    """
    if device.type != "cuda":
        return _DTYPES["float32" if name == "auto" else name]
    capability = torch.cuda.get_device_capability(device)
    known = [dtype for dtype, needed in _NEEDED_CAPABILITY.items() if capability >= needed]
    if name == "auto":
        return _DTYPES["bfloat16" if "bfloat16" in known else "float32"]
    if name not in known:
        needed, has = (".".join(map(str, one)) for one in (_NEEDED_CAPABILITY[name], capability))
        raise ScorerUnavailable(
            f"dtype must be one that the device computes in: {' or '.join(known)} on {device_name(device)} of compute "
            f"capability {has}, but got dtype={name}, which needs {needed}"
        )
    return _DTYPES[name]


def device_name(device: torch.device) -> str:
    """The model of the accelerator, or of the processor: matrix libraries choose their kernels by it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {_processor_name()}"


def arithmetic(device: torch.device) -> str:
    """How this process rounds on `device`.

    On a CPU sums are split among threads and vector lanes. On CUDA neither matters, but float32 products may be taken
    in TF32, which an environment variable turns on behind our back.
    """
    if device.type == "cuda":
        return f"matmul precision {torch.get_float32_matmul_precision()}"
    return f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def _processor_name() -> str:
    """As Linux tells it; elsewhere the architecture."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
