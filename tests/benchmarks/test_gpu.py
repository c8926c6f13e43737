"""The GPU benchmarks in their small form, on the CPU: they run to their last line, and their formulas hold."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.agreement.ranks import Agreement
from benchmarks.corpus import write_installed_text
from benchmarks.gguf import convert
from benchmarks.machine import forward_flops
from benchmarks.session import Session
from evaluation.models.source import load_tokenizer, resolve_model
from tests.helpers.paths import POCKET, ROOT
from tests.helpers.pocket_gguf import write_pocket_gguf
from workers.gpus import bf16_tflops

# What a machine with torch and transformers need not have, and the service does.
MISSING = ("ray", "pydantic", "sqlalchemy", "optuna", "fastapi", "gguf", "datasets", "typer", "matplotlib", "vllm")
PROGRAM = f"""
import sys
sys.modules |= dict.fromkeys({MISSING})
import benchmarks.scoring.vllm
from benchmarks.extend import once
from benchmarks.scoring import __main__ as scoring
from workers.gpus import bf16_tflops
small = ["--small", "--device", "cpu"]
scoring.main([*small, "--repeats", "1", "--peak-tflops", "1", "--report", sys.argv[1] + "/reports/scoring.md"])
once.main([*small, "--steps", "1", "--report", sys.argv[1] + "/extend.md"])
from benchmarks.agreement.__main__ import main
forms = ["--forms", "128x1h", "100x2a"]
kept = ["--store", sys.argv[1] + "/scores", "--report", sys.argv[1] + "/agreement.md"]
main([*small, *forms, *kept, "--finalists", "2"])
"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both have left theirs, run in one process that lacks what only the service needs."""
    directory = tmp_path_factory.mktemp("gpu")
    done = run(PROGRAM, str(directory))
    assert done.returncode == 0, done.stderr
    return directory


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def tables(report: str) -> list[list[list[str]]]:
    """The cells of each table's rows, its head left out."""
    blocks = re.findall(r"(?:^\|.*\n)+", report, flags=re.MULTILINE)
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in one.splitlines()[2:]] for one in blocks]


def test_scoring(reports: Path) -> None:
    report = (reports / "reports" / "scoring.md").read_text()
    lengths, ratios, swap = tables(report)
    assert [row[:2] for row in lengths] == [["256", "4"], ["512", "2"]]
    assert all(float(row[3].replace(",", "")) > 0 and row[5].endswith("%") for row in lengths)
    assert len(ratios) == 4
    assert float(swap[0][4]) < 0.5
    assert re.search(r"Hot swap: [\d.e-]+ ms", report)


def test_extend(reports: Path) -> None:
    report = (reports / "extend.md").read_text()
    (rows,) = tables(report)
    names = [row[0].removesuffix(" (best baseline)") for row in rows]
    assert names[:5] == ["none", "pi", "ntk", "yarn", "mrrope_pro"]
    assert names[-2] == "found"
    assert names[-1].endswith(", fine-tuned")
    assert all(len(row) == 6 for row in rows)
    assert (rows[0][3], rows[0][5]) == ("100.0 %", "100.0 %")
    assert re.search(r"Search: \d+ candidates, .* winner is", report)
    assert "Fine-tuning: 1 steps" in report


def test_agreement(reports: Path) -> None:
    ranks, means, held_out = tables((reports / "agreement.md").read_text())
    assert [row[0] for row in ranks] == ["full, 2 documents: one half ranks the other", "skip128x1h", "skip100x2a"]
    assert [row[1] for row in ranks] == ["512", "128", "100"]
    assert all(-1.0 <= float(row[4]) <= 1.0 for row in ranks)
    assert len(means[0]) == 4
    assert [row[0] for row in held_out] == ["full, 2 documents", "skip128x1h", "skip100x2a"]
    assert (reports / "scores").stat().st_size > 0


def test_ranks_of_one_order_agree() -> None:
    measure = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    found = Agreement.of(10.0 * measure**2, measure)
    assert (found.correlation, found.best_half, found.kept) == (1.0, 1.0, (1.0, 1.0, 1.0))
    turned = Agreement.of(-measure, measure)
    assert turned.correlation == -1.0
    assert turned.kept[0] == pytest.approx(8.0)


def test_a_gguf_in_parts_is_the_model(tmp_path: Path) -> None:
    whole = write_pocket_gguf(tmp_path / "pocket.gguf").read_bytes()
    parts = [tmp_path / "part.0", tmp_path / "part.1"]
    for part, data in zip(parts, (whole[:1_000_000], whole[1_000_000:]), strict=True):
        part.write_bytes(data)
    directory = convert(parts, tmp_path / "model", dtype="float32")
    assert not list(directory.glob("*.gguf"))
    ours, theirs = resolve_model(str(directory)), resolve_model("pocket")
    assert ours.rope == theirs.rope
    text = "The magic number for otter is 7041236."
    ids = load_tokenizer(ours).encode(text)
    assert ids == load_tokenizer(theirs).encode(text)
    build: Any = transformers.AutoModelForCausalLM
    ours_gives, theirs_gives = (build.from_pretrained(path)(torch.tensor([ids])).logits for path in (directory, POCKET))
    assert torch.allclose(ours_gives, theirs_gives, atol=1e-4)


def test_flops_are_those_that_torch_counts() -> None:
    """Torch counts all of the attention's square, and the logits."""
    build: Any = transformers.AutoModelForCausalLM
    model, tokens = build.from_pretrained(POCKET, attn_implementation="eager"), 64
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, tokens, dtype=torch.long), logits_to_keep=1)
    config = model.config
    attention = 2 * tokens**2 * config.num_hidden_layers * config.num_attention_heads * config.head_dim
    logits = 2 * config.hidden_size * config.vocab_size
    assert counter.get_total_flops() == forward_flops(config, tokens) + attention + logits


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H200", 989.0),
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 NVL", 835.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("cpu Intel(R) Xeon(R) Processor", None),
    ],
)
def test_the_peak_of_a_device(name: str, expected: float | None) -> None:
    assert bf16_tflops(name) == expected


def test_text_of_what_is_installed(tmp_path: Path) -> None:
    one, other = (write_installed_text(tmp_path / name, characters=50_000) for name in ("one", "other"))
    assert 50_000 <= len(one.read_text()) < 100_000
    assert one.read_text() == other.read_text()


def test_what_is_missing_is_named_in_one_line() -> None:
    program = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'wonderwords' else find(name, *rest)\n"
        "from benchmarks.scoring.__main__ import main; main(['--small'])"
    )
    done = run(program)
    assert done.returncode == 1
    assert (
        done.stderr == "this benchmark needs wonderwords, but it is not installed here: see benchmarks/gpu/README.md\n"
    )


def test_time_that_is_over_is_told() -> None:
    lines: list[str] = []

    class Report:
        def add(self, *added: str) -> None:
            lines.extend(added)

    session: Any = object.__new__(Session)
    session.__dict__.update(report=Report(), _max_seconds=-1.0, _began=0.0)
    assert not session.has_time("length 131072")
    assert lines[-1].endswith("length 131072.")
