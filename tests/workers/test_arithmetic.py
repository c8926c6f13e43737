"""What a fingerprint says about the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from workers import arithmetic

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_a_processor_is_told_by_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Abacus 9000: big\n\nprocessor\t: 1\nmodel name\t: other\n")
    monkeypatch.setattr(arithmetic, "_CPU_INFO", info)
    assert arithmetic.device_name(CPU) == "cpu Abacus 9000: big"


@pytest.mark.parametrize("text", [None, "processor\t: 0\nFeatures\t: neon\n"])
def test_a_processor_without_a_model_is_told_by_its_architecture(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cpuinfo"
    if text is not None:
        info.write_text(text)
    monkeypatch.setattr(arithmetic, "_CPU_INFO", info)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "loong64")
    assert arithmetic.device_name(CPU) == "cpu loong64"


def test_instruction_sets_matter_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    here = arithmetic.arithmetic(CPU)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "other lanes")
    assert arithmetic.arithmetic(CPU) != here


def test_rounded_float32_products_matter_on_cuda() -> None:
    precise = arithmetic.arithmetic(CUDA)
    torch.set_float32_matmul_precision("high")
    try:
        assert arithmetic.arithmetic(CUDA) != precise
    finally:
        torch.set_float32_matmul_precision("highest")
