"""Engines that something is wrong with, or that run where they usually do not.

    python -m tests.helpers.vllm_children KIND FD.

Each changes one thing of real vLLM in the engine's own process, and is then what workers/vllm_backend/child.py is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any


def unknown_rotary() -> None:
    """Llama rotates with a class that Ropewalk has never heard of."""
    from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding
    from vllm.model_executor.models import llama

    class HouseRotaryEmbedding(RotaryEmbedding):  # type: ignore[misc]  # vLLM is missing where types are checked
        pass

    original = llama.get_rope

    def get_rope(*arguments: Any, **named: Any) -> Any:
        rope = original(*arguments, **named)
        rope.__class__ = HouseRotaryEmbedding
        return rope

    llama.get_rope = get_rope


def deaf_rotary() -> None:
    """What is written into a rotary module does not stay there."""
    from workers.vllm_backend import rotary as vllm_rotary

    original = vllm_rotary._table
    vllm_rotary._table = lambda module: original(module).clone()


def two_ranks() -> None:
    """Ranks on one memory node: vLLM wants to be told which cores they take."""
    cores = sorted(os.sched_getaffinity(0))
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"{cores[0]}|{cores[-1]}"


def v2_runner() -> None:
    """The V2 model runner on a CPU: its Triton kernels, interpreted."""
    os.environ |= {"TRITON_INTERPRET": "1", "VLLM_USE_V2_MODEL_RUNNER": "1"}
    from types import SimpleNamespace

    import triton.backends

    # vLLM for CPUs runs V2 with a build of Triton that has a CPU backend, of which it asks no more than this.
    triton.backends.backends = {"cpu": SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True))}


KINDS: dict[str, Callable[[], None]] = {
    "unknown_rotary": unknown_rotary,
    "deaf_rotary": deaf_rotary,
    "two_ranks": two_ranks,
    "v2_runner": v2_runner,
}

if __name__ == "__main__":
    KINDS[sys.argv.pop(1)]()
    from workers.vllm_backend.child import main

    main()
