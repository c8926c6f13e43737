"""The machine that a GPU benchmark runs on: what is installed, what the device could do at most, and what is free."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workers.arithmetic import choose_device, device_name
from workers.gpus import bf16_tflops
from workers.vllm_backend.version import vllm_version

_GIB = 2.0**30


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where torch computes. peak_tflops: dense bf16, None where it is not known."""

    device: torch.device
    name: str
    peak_tflops: float | None

    @classmethod
    def here(cls, peak_tflops: float | None) -> Machine:
        """This one; `peak_tflops` stands in for the table where it is given."""
        device = choose_device()
        name = device_name(device)
        return cls(device=device, name=name, peak_tflops=peak_tflops or bf16_tflops(name))

    def free_bytes(self) -> int | None:
        """On the GPU; None on a CPU."""
        return int(torch.cuda.mem_get_info()[0]) if self.device.type == "cuda" else None

    def wait(self) -> None:
        """Until the device has done what it was given: calls of CUDA return before that."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak_gib(self, work: Callable[[], object]) -> float | None:
        """What `work` holds at most on the GPU beyond what is held now, GiB; None on a CPU, where it is not run."""
        if self.device.type != "cuda":
            return None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / _GIB


def forward_flops(config: Any, tokens: int) -> float:
    """Of one causal forward pass over `tokens` tokens, a multiplication and an addition being two.

    With T tokens, l layers, hidden size h, H query and K key heads of D numbers, MLP size m (gated, three matrices):
    2 T l (2 h H D + 2 h K D + 3 h m) for the matrices and 2 T^2 l H D for attention, which sees half of T^2. `config`
    is a model's of transformers. Not counted: logits of answer tokens, softmax, norms, rotation, embedding.
    """
    heads, layers, hidden = config.num_attention_heads, config.num_hidden_layers, config.hidden_size
    head_dim = getattr(config, "head_dim", None) or hidden // heads
    attention = 2 * hidden * heads * head_dim + 2 * hidden * config.num_key_value_heads * head_dim
    matrices = attention + 3 * hidden * config.intermediate_size
    return float(2 * tokens * layers * matrices + 2 * tokens**2 * layers * heads * head_dim)


class Report:
    """Lines that are printed at once and kept for a file, which so holds all that was measured when a run is cut."""

    def __init__(self, path: Path | None, title: str) -> None:
        self._path = path
        self._lines: list[str] = []
        self.add(f"# {title}, {datetime.date.today().isoformat()}", "")

    def add(self, *lines: str) -> None:
        """Write them."""
        self._lines += lines
        print(*lines, sep="\n", flush=True)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text("\n".join(self._lines) + "\n", encoding="utf-8")

    def table(self, head: Sequence[str]) -> None:
        """Begin one; `row` goes on."""
        self.add("", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}")

    def row(self, *cells: str) -> None:
        """One row of the table."""
        self.add(f"| {' | '.join(cells)} |")


def software() -> str:
    """Versions that a figure depends on, in one line."""
    versions = {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "vLLM": vllm_version(),
    }
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version is not None)


def figure(value: float | None, digits: str = ".3g") -> str:
    """For a table; a dash where nothing was measured."""
    return "-" if value is None else format(value, digits)
