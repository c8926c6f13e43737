"""Machines that tests pretend to run on: with a vLLM, with a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


def install_vllm(directory: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as anyone can tell without importing it."""
    (directory / "vllm").mkdir()
    (directory / "vllm" / "__init__.py").touch()
    metadata = directory / f"vllm-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    monkeypatch.syspath_prepend(directory)


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, *, name: str, capability: tuple[int, int]) -> None:
    """One GPU, as torch describes it; nothing can be computed on it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
