"""What a user of a benchmark gave and does not work is one line; what is a fault of the program is not hidden."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from unittest.mock import patch

import pytest

from benchmarks.command import run_command
from tests.helpers.paths import ROOT

WRONG = {
    "plan --target-lengths 128": "target_length must be at least original_length, but got target_length=128",
    "plan --steps 0": "finetune.steps: ",
    "plan --model /no/such": "'/no/such'",
    "scoring.__main__ --model /no/such": "'/no/such'",
    "agreement.__main__ --model /no/such": "'/no/such'",
    "extend.once --model /no/such": "'/no/such'",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_what_was_given_and_does_not_work_is_one_line(arguments: str) -> None:
    program, *given = arguments.split()
    benchmark = importlib.import_module(f"benchmarks.{program}")
    # Some of them close the network for their process.
    with patch.dict(os.environ), pytest.raises(SystemExit) as ended:
        run_command(lambda: benchmark.main(given))
    told = str(ended.value.code)
    assert re.fullmatch(r"error: [^\n]+", told)
    assert WRONG[arguments] in told


@pytest.mark.parametrize(
    "arguments",
    ["extend.rows.__main__ --store x --arms none", "extend.rows.cost --arms none", "search.running --methods none"],
)
def test_what_no_row_has_is_told_and_not_skipped(
    arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *given = arguments.split()
    monkeypatch.setattr(sys, "argv", [program, *given])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"benchmarks.{program}").main()
    assert ended.value.code == 2
    assert "invalid choice: 'none'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_benchmark_that_is_refused_ends_so() -> None:
    command = [sys.executable, "-m", "benchmarks.plan", "--target-lengths", "128"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"error: [^\n]+\n", done.stderr)


def test_every_benchmark_is_run_so() -> None:
    programs = {
        path.relative_to(ROOT).as_posix(): text.rpartition("    ")[2].strip()
        for path in (ROOT / "benchmarks").rglob("*.py")
        if '__name__ == "__main__"' in (text := path.read_text())
    }
    del programs["benchmarks/serving/engine.py"]  # a child of its benchmark, which nobody starts
    assert set(programs.values()) == {"run_command(main)"}


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    def broken() -> None:
        raise KeyError("step")

    with pytest.raises(KeyError):
        run_command(broken)
