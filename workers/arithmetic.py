"""Where and how torch calculates: what a score's last bits depend on besides model, candidate and document."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

_CPU_INFO = Path("/proc/cpuinfo")


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
