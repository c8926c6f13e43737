"""What a fingerprint says about the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers.hardware import pretend_gpu
from workers import arithmetic
from workers.errors import ScorerUnavailable

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


def test_a_cpu_computes_in_every_dtype() -> None:
    chosen = [arithmetic.choose_dtype(name, CPU) for name in ("auto", "float32", "float16", "bfloat16")]
    assert chosen == [torch.float32, torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize(
    ("capability", "auto", "refused"),
    [
        ((9, 0), torch.bfloat16, []),
        ((8, 0), torch.bfloat16, []),
        ((7, 5), torch.float32, ["bfloat16"]),
        ((5, 2), torch.float32, ["float16", "bfloat16"]),
    ],
)
def test_a_gpu_computes_in_what_its_generation_has(
    capability: tuple[int, int], auto: torch.dtype, refused: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu(monkeypatch, name="a GPU", capability=capability)
    assert arithmetic.choose_dtype("auto", CUDA) == auto
    for name in ("float32", "float16", "bfloat16"):
        if name in refused:
            with pytest.raises(ScorerUnavailable, match=f"a GPU of compute capability .* but got dtype={name}, which"):
                arithmetic.choose_dtype(name, CUDA)
        else:
            assert arithmetic.choose_dtype(name, CUDA) == getattr(torch, name)
