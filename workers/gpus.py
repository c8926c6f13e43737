"""What GPUs could do at most, as their makers' data sheets have it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ropewalk.registry import Registry


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU. bf16_tflops: dense, of the tensor cores with sums in float32."""

    name: str
    summary: str
    bf16_tflops: float
    memory_gib: float
    source: str
    """The data sheet."""


_NVIDIA = "nvidia.com/en-us/data-center"

GPUS: Registry[Gpu] = Registry(
    "gpu",
    Gpu(name="H100", summary="SXM, 80 GB", bf16_tflops=989.0, memory_gib=80, source=f"{_NVIDIA}/h100"),
    Gpu(name="H100 NVL", summary="94 GB", bf16_tflops=835.0, memory_gib=94, source=f"{_NVIDIA}/h100"),
    Gpu(name="H100 PCIe", summary="80 GB", bf16_tflops=756.0, memory_gib=80, source=f"{_NVIDIA}/h100"),
    Gpu(name="H200", summary="141 GB", bf16_tflops=989.0, memory_gib=141, source=f"{_NVIDIA}/h200"),
    Gpu(name="B200", summary="180 GB", bf16_tflops=2250.0, memory_gib=180, source=f"{_NVIDIA}/dgx-b200"),
    Gpu(name="A100", summary="80 GB", bf16_tflops=312.0, memory_gib=80, source=f"{_NVIDIA}/a100"),
    Gpu(name="L40S", summary="48 GB", bf16_tflops=362.0, memory_gib=48, source=f"{_NVIDIA}/l40s"),
    Gpu(name="L4", summary="24 GB", bf16_tflops=121.0, memory_gib=24, source=f"{_NVIDIA}/l4-tensor-core-gpu"),
    Gpu(name="A10", summary="24 GB", bf16_tflops=125.0, memory_gib=24, source=f"{_NVIDIA}/a10-tensor-core-gpu"),
    Gpu(
        name="RTX 4090",
        summary="24 GB",
        bf16_tflops=165.2,
        memory_gib=24,
        source="NVIDIA Ada GPU architecture, whitepaper, appendix A",
    ),
    refusal=ValueError,
    kind=Gpu,
)


def bf16_tflops(name: str) -> float | None:
    """Dense bf16 peak of the device that a driver calls `name`; None for one that is not in the table."""
    words = re.split(r"[\s-]+", name)
    known = [key for key in GPUS if all(word in words for word in key.split())]
    return GPUS[max(known, key=len)].bf16_tflops if known else None
